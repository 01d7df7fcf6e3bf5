#include "index/index.h"

#include <algorithm>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>

#include "index/whole.h"

#include "runtime/shapes.h"
#include "runtime/steps/step.h"

namespace qfx {
namespace {

struct TableParams {
  RowTable table;
  bool wide;  // indices of 64 bits

  explicit TableParams(const StepView& s) : wide(s.input(0).dtype == DType::s64) {
    const Constant& given = *s.constant("table");
    s.require(given.shape.size() == 2, "'table' is not of two dims");
    table.rows = given.shape[0];
    table.features = given.shape[1];
    const bool is_code = given.dtype == DType::s8 || given.dtype == DType::s4;
    s.require(is_code || (!s.has("scale") && !s.has("zero_point")), "a table of floats has no scale");
    if (given.dtype == DType::f32) table.floats = given.as<float>().data();
    if (given.dtype == DType::f16 || given.dtype == DType::bf16) table.halves = given.as<uint16_t>().data();
    table.brain = given.dtype == DType::bf16;
    if (!is_code) return;
    table.codes = given.as<std::byte>().data();
    table.bits = given.dtype == DType::s8 ? 8 : 4;
    s.require(s.has("scale"), "a table of codes has no scale");
    take_scale(s, *s.constant("scale"));
    if (s.has("zero_point")) take_zero_point(s, *s.constant("zero_point"), given.dtype);
  }

 private:
  void take_scale(const StepView& s, const Constant& scale) {
    const bool groups = scale.shape.size() == 2;
    table.row_scales = groups ? scale.shape[1] : scale.size() == 1 ? 0 : 1;
    const int64_t each = std::max<int64_t>(table.row_scales, 1);
    s.require(groups ? scale.shape[0] == table.rows && table.row_scales > 0 && table.features % each == 0
                     : scale.size() == 1 || scale.size() == table.rows,
              "'scale' is neither one, nor one a row, nor a matrix of a number a row that divides the features");
    table.group = table.features / each;
    if (scale.dtype == DType::f16) {
      table.half_scale = scale.as<uint16_t>();
    } else {
      table.scale = scale.as<float>();
    }
  }

  // Of a matrix of scales as the codes are stored, else s32.
  void take_zero_point(const StepView& s, const Constant& zero, DType codes) {
    const Constant& scale = *s.constant("scale");
    const bool narrow = scale.shape.size() == 2;
    s.require(zero.size() == scale.size() && (!narrow || zero.shape == scale.shape),
              "'zero_point' is not of the scale's shape");
    s.require(zero.dtype == (narrow ? codes : DType::s32), "'zero_point' is not of the type that goes with the scale");
    if (narrow) {
      table.code_zero = zero.as<std::byte>();
      return;
    }
    table.zero_point = zero.as<int32_t>();
    const bool are_codes = std::ranges::all_of(table.zero_point, [](int32_t z) { return z >= -128 && z <= 127; });
    s.require(are_codes, "'zero_point' has an entry that is no s8");
  }
};

struct EmbeddingParams : TableParams {
  explicit EmbeddingParams(const StepView& s) : TableParams(s) {
    s.require(s.output().rank() == s.input(0).rank() + 1, "y has not one dim more than the indices");
  }
};

class EmbeddingStep : public StepKernel {
 public:
  using Params = EmbeddingParams;
  EmbeddingStep(Params params, Isa) : p_(params) {}

  Dims shape(const StepShapes& in) const override {
    Dims y = in.inputs[0];
    y.push_back(p_.table.features);
    return y;
  }

  Planned plan(const StepShapes& in, const Dims&) const override {
    const int64_t count = element_count(in.inputs[0]);
    return {p_.wide ? plan_embedding<int64_t>(p_.table, count) : plan_embedding<int32_t>(p_.table, count), 0, nullptr};
  }
  int64_t places(const StepShapes&) const override { return p_.table.rows; }

 private:
  Params p_;
};

struct BagParams : TableParams {
  bool ragged, include_last;
  Bags bags;

  explicit BagParams(const StepView& s)
      : TableParams(s), ragged(s.step().op == "ragged_embedding_bag"), include_last(ragged && s.flag("include_last")) {
    const std::string mode = s.text("mode");
    s.require(mode == "sum" || mode == "mean" || mode == "max", "'mode' is neither sum, mean nor max");
    bags.mode = mode == "sum" ? BagMode::sum : mode == "mean" ? BagMode::mean : BagMode::max;
    bags.padding = s.integer("padding");
    bags.factors = s.input_count() == (ragged ? 3 : 2);
    s.require(!bags.factors || bags.mode == BagMode::sum, "factors are for sums");
    s.require(s.output().rank() == 2 && s.input(0).rank() == (ragged ? 1 : 2), "y or the indices are of another rank");
    s.require(!ragged || s.input(1).rank() == 1, "offsets are not of one dim");
  }
};

class BagStep : public StepKernel {
 public:
  using Params = BagParams;
  BagStep(Params params, Isa isa) : p_(params), isa_(isa) {}

  Dims shape(const StepShapes& in) const override {
    if (p_.bags.factors && in.inputs.back() != in.inputs[0]) {
      throw std::invalid_argument("factors of shape " + to_string(in.inputs.back()) + " for indices of shape " +
                                  to_string(in.inputs[0]));
    }
    if (!p_.ragged) return {in.inputs[0][0], p_.table.features};
    if (p_.include_last && in.inputs[1][0] == 0) throw std::invalid_argument("there is no last offset");
    return {in.inputs[1][0] - (p_.include_last ? 1 : 0), p_.table.features};
  }

  Planned plan(const StepShapes& in, const Dims& y) const override {
    Bags bags = p_.bags;
    bags.count = y[0];
    bags.indices = element_count(in.inputs[0]);
    bags.starts = p_.ragged ? in.inputs[1][0] : 0;
    auto* const made = p_.wide ? plan_embedding_bag<int64_t> : plan_embedding_bag<int32_t>;
    return {made(p_.table, bags, isa_), 0, nullptr};
  }
  int64_t places(const StepShapes&) const override { return p_.table.rows; }
  int rising_operand() const noexcept override { return p_.ragged ? 1 : -1; }

 private:
  Params p_;
  Isa isa_;
};

// The type of elements of a value.
Element element_of(DType dtype) {
  switch (dtype) {
    case DType::s32:
      return Element::s32;
    case DType::s64:
      return Element::s64;
    case DType::boolean:
      return Element::boolean;
    default:
      return Element::f32;
  }
}

int64_t product(const Dims& dims, size_t begin, size_t end) {
  return element_count(std::span(dims).subspan(begin, end - begin));
}

struct CastParams {
  Element from, to;
  bool same;

  explicit CastParams(const StepView& s)
      : from(element_of(s.input(0).dtype)), to(element_of(s.output().dtype)), same(from == to) {
    s.require(s.output().rank() == s.input(0).rank(), "x and y are not of one rank");
  }
};

class CastStep : public StepKernel {
 public:
  using Params = CastParams;
  CastStep(Params params, Isa) : p_(params) {}

  Dims shape(const StepShapes& in) const override { return in.inputs[0]; }
  Planned plan(const StepShapes&, const Dims& y) const override {
    if (p_.same) return {nullptr, 0, nullptr};
    return {plan_cast(p_.from, p_.to, element_count(y)), 0, nullptr};
  }

 private:
  Params p_;
};

struct PairwiseParams {
  std::string function;
  Element type;

  explicit PairwiseParams(const StepView& s) : function(s.text("function")), type(element_of(s.input(0).dtype)) {
    s.require(s.input(1).dtype == s.input(0).dtype, "a and b are not of one type");
    s.require(s.output().rank() == std::max(s.input(0).rank(), s.input(1).rank()),
              "y has not the rank of a and b broadcast");
    const DType wanted = is_comparison(function) ? DType::boolean : s.input(0).dtype;
    s.require(s.output().dtype == wanted, "y is not " + std::string(dtype_name(wanted)));
    try {
      plan_pairwise(function, type, {}, {});
    } catch (const std::invalid_argument& error) {
      s.fail(error.what());
    }
  }
};

class PairwiseStep : public StepKernel {
 public:
  using Params = PairwiseParams;
  PairwiseStep(Params params, Isa) : p_(std::move(params)) {}

  Dims shape(const StepShapes& in) const override { return broadcast(in.inputs[0], in.inputs[1]); }
  Planned plan(const StepShapes& in, const Dims& y) const override {
    const Dims a = pad_rank(in.inputs[0], y.size()), b = pad_rank(in.inputs[1], y.size());
    return {plan_pairwise(p_.function, p_.type, a, b), 0, nullptr};
  }

 private:
  Params p_;
};

struct WhereParams {
  int64_t element;

  explicit WhereParams(const StepView& s) : element(element_size(s.output().dtype)) {
    size_t rank = 0;
    for (size_t i = 0; i < 3; ++i) rank = std::max(rank, s.input(i).rank());
    s.require(s.output().rank() == rank, "y has not the rank of the operands broadcast");
    s.require(s.input(1).dtype == s.output().dtype && s.input(2).dtype == s.output().dtype,
              "a, b and y are not of one type");
  }
};

class WhereStep : public StepKernel {
 public:
  using Params = WhereParams;
  WhereStep(Params params, Isa) : p_(params) {}

  Dims shape(const StepShapes& in) const override {
    return broadcast(in.inputs[0], broadcast(in.inputs[1], in.inputs[2]));
  }

  Planned plan(const StepShapes& in, const Dims& y) const override {
    const size_t rank = y.size();
    return {plan_where(p_.element, pad_rank(in.inputs[0], rank), pad_rank(in.inputs[1], rank),
                       pad_rank(in.inputs[2], rank)),
            0, nullptr};
  }

 private:
  Params p_;
};

struct ArangeParams {
  int64_t step;
  bool from_zero;

  explicit ArangeParams(const StepView& s) : step(s.integer("step")), from_zero(s.is_zero(0)) {
    s.require(s.input(0).rank() == 0 && s.output().rank() == 1, "the first number has dims, or y not one");
  }
};

class ArangeStep : public StepKernel {
 public:
  using Params = ArangeParams;
  ArangeStep(Params params, Isa) : p_(params) {}

  Dims shape(const StepShapes& in) const override { return in.exprs.at("count"); }
  Planned plan(const StepShapes&, const Dims& y) const override { return {plan_arange(y[0], p_.step), 0, nullptr}; }
  bool counts_images() const noexcept override { return p_.from_zero && p_.step == 1; }

 private:
  Params p_;
};

struct AxisParams {
  size_t axis;
  Element type;

  explicit AxisParams(const StepView& s)
      : axis(static_cast<size_t>(s.axis("axis"))), type(element_of(s.input(0).dtype)) {
    const bool keeps = s.step().op == "cumsum";
    s.require(s.output().rank() + (keeps ? 0 : 1) == s.input(0).rank(), "y is not of the rank that is left");
  }
};

class CumsumStep : public StepKernel {
 public:
  using Params = AxisParams;
  CumsumStep(Params params, Isa) : p_(params) {}

  Dims shape(const StepShapes& in) const override { return in.inputs[0]; }
  Planned plan(const StepShapes&, const Dims& y) const override {
    return {plan_cumsum(product(y, 0, p_.axis), y[p_.axis], product(y, p_.axis + 1, y.size())), 0, nullptr};
  }
  bool mixes_images(const StepShapes&) const override { return p_.axis == 0; }

 private:
  Params p_;
};

class ArgmaxStep : public StepKernel {
 public:
  using Params = AxisParams;
  ArgmaxStep(Params params, Isa) : p_(params) {}

  Dims shape(const StepShapes& in) const override {
    Dims y = in.inputs[0];
    y.erase(y.begin() + static_cast<std::ptrdiff_t>(p_.axis));
    return y;
  }

  Planned plan(const StepShapes& in, const Dims&) const override {
    const Dims& x = in.inputs[0];
    return {plan_argmax(p_.type, product(x, 0, p_.axis), x[p_.axis], product(x, p_.axis + 1, x.size())), 0, nullptr};
  }
  bool mixes_images(const StepShapes&) const override { return p_.axis == 0; }

 private:
  Params p_;
};

struct GatherParams {
  size_t axis;
  int64_t element;

  explicit GatherParams(const StepView& s)
      : axis(static_cast<size_t>(s.axis("axis"))), element(element_size(s.output().dtype)) {
    s.require(s.input(1).rank() == s.input(0).rank() && s.output().rank() == s.input(0).rank(),
              "x, index and y are not of one rank");
  }
};

class GatherStep : public StepKernel {
 public:
  using Params = GatherParams;
  GatherStep(Params params, Isa) : p_(params) {}

  Dims shape(const StepShapes& in) const override {
    const Dims &x = in.inputs[0], &index = in.inputs[1];
    for (size_t d = 0; d < x.size(); ++d) {
      if (d == p_.axis || index[d] <= x[d]) continue;
      throw std::invalid_argument("an index " + to_string(index) + " is longer than " + to_string(x));
    }
    return index;
  }

  Planned plan(const StepShapes& in, const Dims&) const override {
    return {plan_gather({p_.element, in.inputs[0], in.inputs[1], p_.axis}), 0, nullptr};
  }
  bool mixes_images(const StepShapes&) const override { return p_.axis == 0; }
  int64_t places(const StepShapes& in) const override { return in.inputs[0][p_.axis]; }

 private:
  Params p_;
};

struct TakeParams {
  size_t indices;
  int64_t element;

  explicit TakeParams(const StepView& s) : indices(s.input_count() - 1), element(element_size(s.output().dtype)) {
    size_t rank = 0;
    for (size_t i = 0; i < indices; ++i) rank = std::max(rank, s.input(1 + i).rank());
    s.require(indices <= s.input(0).rank(), "x has fewer dims than there are indices");
    s.require(s.output().rank() == rank + s.input(0).rank() - indices, "y is not of the indices' and the other dims");
  }
};

class TakeStep : public StepKernel {
 public:
  using Params = TakeParams;
  TakeStep(Params params, Isa) : p_(params) {}

  Dims shape(const StepShapes& in) const override {
    Dims y = taken(in);
    const auto rest = in.inputs[0].begin() + static_cast<std::ptrdiff_t>(p_.indices);
    y.insert(y.end(), rest, in.inputs[0].end());
    return y;
  }

  Planned plan(const StepShapes& in, const Dims&) const override {
    const Dims& x = in.inputs[0];
    TakeShape shape;
    shape.dims.assign(x.begin(), x.begin() + static_cast<std::ptrdiff_t>(p_.indices));
    const size_t rank = taken(in).size();
    for (size_t i = 0; i < p_.indices; ++i) shape.index.push_back(pad_rank(in.inputs[1 + i], rank));
    shape.bytes = product(x, p_.indices, x.size()) * p_.element;
    return {plan_take(shape), 0, nullptr};
  }
  bool picks_images() const noexcept override { return true; }
  int64_t places(const StepShapes& in) const override {
    const auto end = in.inputs[0].begin() + static_cast<std::ptrdiff_t>(p_.indices);
    return *std::min_element(in.inputs[0].begin(), end);
  }

 private:
  // The shape of the indices together.
  Dims taken(const StepShapes& in) const {
    Dims y = in.inputs[1];
    for (size_t i = 1; i < p_.indices; ++i) y = broadcast(y, in.inputs[1 + i]);
    return y;
  }

  Params p_;
};

}  // namespace

std::vector<KernelRow> index_rows() {
  return {kernel_row<EmbeddingStep>("embedding"),
          kernel_row<BagStep>("embedding_bag"),
          kernel_row<BagStep>("ragged_embedding_bag"),
          kernel_row<CastStep>("cast"),
          kernel_row<PairwiseStep>("pairwise"),
          kernel_row<WhereStep>("where"),
          kernel_row<ArangeStep>("arange"),
          kernel_row<CumsumStep>("cumsum"),
          kernel_row<ArgmaxStep>("argmax"),
          kernel_row<GatherStep>("gather"),
          kernel_row<TakeStep>("take")};
}

}  // namespace qfx
