#include "float_ops/float_ops.h"

#include <algorithm>
#include <stdexcept>

#include "runtime/shapes.h"
#include "runtime/steps/step.h"

namespace qfx {
namespace {

void require_same_rank(const StepView& s) {
  s.require(s.output().rank() == s.input(0).rank(), "the output's rank is not the input's");
}

int64_t product(const Dims& dims, size_t begin, size_t end) {
  return element_count({dims.data() + begin, end - begin});
}

struct SoftmaxParams {
  size_t axis;
  bool log;

  explicit SoftmaxParams(const StepView& s)
      : axis(static_cast<size_t>(s.axis("axis"))), log(s.step().op == "log_softmax") {
    require_same_rank(s);
  }
};

class SoftmaxStep : public StepKernel {
 public:
  using Params = SoftmaxParams;
  SoftmaxStep(Params params, Isa isa) : p_(params), isa_(isa) {}

  Dims shape(const StepShapes& in) const override { return in.inputs[0]; }
  Planned plan(const StepShapes&, const Dims& y) const override {
    const int64_t inner = product(y, p_.axis + 1, y.size());
    return {plan_softmax(product(y, 0, p_.axis), y[p_.axis], inner, p_.log, isa_), 0, nullptr};
  }
  bool mixes_images(const StepShapes&) const override { return p_.axis == 0; }

 private:
  Params p_;
  Isa isa_;
};

struct CausalSoftmaxParams {
  explicit CausalSoftmaxParams(const StepView& s) {
    require_same_rank(s);
    s.require(s.input(0).rank() >= 2, "it takes rows and columns, two dims at least");
  }
};

class CausalSoftmaxStep : public StepKernel {
 public:
  using Params = CausalSoftmaxParams;
  CausalSoftmaxStep(Params, Isa isa) : isa_(isa) {}

  Dims shape(const StepShapes& in) const override { return in.inputs[0]; }
  Planned plan(const StepShapes&, const Dims& y) const override {
    const size_t last = y.size() - 1;
    return {plan_causal_softmax(product(y, 0, last), y[last - 1], y[last], isa_), 0, nullptr};
  }
  bool mixes_images(const StepShapes& in) const override { return in.inputs[0].size() == 2; }

 private:
  Isa isa_;
};

struct AffineParams {
  std::span<const float> weight, bias;

  explicit AffineParams(const StepView& s, bool may_shift = true) {
    if (const Constant* c = s.constant("weight")) weight = c->as<float>();
    if (const Constant* c = may_shift ? s.constant("bias") : nullptr) bias = c->as<float>();
    s.require(weight.empty() || bias.empty() || weight.size() == bias.size(), "'weight' and 'bias' differ in size");
  }

  void check(int64_t n) const {
    for (const auto& v : {weight, bias}) {
      if (v.empty() || static_cast<int64_t>(v.size()) == n) continue;
      throw std::invalid_argument("weight or bias has " + std::to_string(v.size()) + " elements, the input needs " +
                                  std::to_string(n));
    }
  }
};

struct RowNormParams {
  bool rms;
  AffineParams affine;
  double eps;
  size_t ndim;

  explicit RowNormParams(const StepView& s)
      : rms(s.step().op == "rms_norm"),
        affine(s, !rms),
        eps(s.number("eps")),
        ndim(static_cast<size_t>(s.integer("ndim"))) {
    require_same_rank(s);
    s.require(ndim <= s.input(0).rank(), "'ndim' is more than the rank");
  }
};

class RowNormStep : public StepKernel {
 public:
  using Params = RowNormParams;
  RowNormStep(Params params, Isa isa) : p_(std::move(params)), isa_(isa) {}

  Dims shape(const StepShapes& in) const override { return in.inputs[0]; }
  bool goes_by_rows() const noexcept override { return p_.ndim == 1; }
  Planned plan(const StepShapes&, const Dims& y) const override {
    const int64_t n = product(y, y.size() - p_.ndim, y.size());
    p_.affine.check(n);
    const int64_t rows = product(y, 0, y.size() - p_.ndim);
    if (p_.rms) return {plan_rms_norm(rows, n, p_.eps, p_.affine.weight, isa_), 0, nullptr};
    return {plan_layer_norm(rows, n, p_.eps, p_.affine.weight, p_.affine.bias, isa_), 0, nullptr};
  }
  bool mixes_images(const StepShapes& in) const override { return p_.ndim == in.inputs[0].size(); }

 private:
  Params p_;
  Isa isa_;
};

struct GroupNormParams {
  AffineParams affine;
  double eps;
  int64_t groups;

  explicit GroupNormParams(const StepView& s) : affine(s), eps(s.number("eps")), groups(s.integer("groups")) {
    require_same_rank(s);
    s.require(s.input(0).rank() >= 2, "the input has no batch and channel dimension");
  }
};

class GroupNormStep : public StepKernel {
 public:
  using Params = GroupNormParams;
  GroupNormStep(Params params, Isa) : p_(std::move(params)) {}

  Dims shape(const StepShapes& in) const override { return in.inputs[0]; }
  Planned plan(const StepShapes&, const Dims& y) const override {
    const int64_t channels = y.back();
    const int64_t groups = p_.groups == 0 ? channels : p_.groups;
    if (groups == 0 || channels % groups != 0) {
      throw std::invalid_argument(std::to_string(groups) + " groups do not divide " + std::to_string(channels) +
                                  " channels");
    }
    p_.affine.check(channels);
    return {
        plan_group_norm(y[0], product(y, 1, y.size() - 1), channels, groups, p_.eps, p_.affine.weight, p_.affine.bias),
        0, nullptr};
  }

 private:
  Params p_;
};

struct FloatBinaryParams {
  FloatBinaryOp op;

  explicit FloatBinaryParams(const StepView& s) {
    const std::string& name = s.step().op;
    op = name == "add_f32"   ? FloatBinaryOp::add
         : name == "sub_f32" ? FloatBinaryOp::sub
         : name == "mul_f32" ? FloatBinaryOp::mul
                             : FloatBinaryOp::div;
    s.require(s.output().rank() == std::max(s.input(0).rank(), s.input(1).rank()),
              "the output's rank is not that of the inputs broadcast");
  }
};

class FloatBinaryStep : public StepKernel {
 public:
  using Params = FloatBinaryParams;
  FloatBinaryStep(Params params, Isa) : p_(params) {}

  Dims shape(const StepShapes& in) const override { return broadcast(in.inputs[0], in.inputs[1]); }
  Planned plan(const StepShapes& in, const Dims& y) const override {
    const size_t rank = std::max<size_t>(y.size(), 1);
    return {plan_binary_f32(p_.op, pad_rank(in.inputs[0], rank), pad_rank(in.inputs[1], rank)), 0, nullptr};
  }

 private:
  Params p_;
};

struct PointwiseParams {
  std::string function;
  std::vector<double> args;

  explicit PointwiseParams(const StepView& s) : function(s.text("function")), args(s.floats("args")) {
    require_same_rank(s);
    try {
      plan_pointwise_f32(function, args, 0);
    } catch (const std::invalid_argument& error) {
      s.fail(error.what());
    }
  }
};

class PointwiseStep : public StepKernel {
 public:
  using Params = PointwiseParams;
  PointwiseStep(Params params, Isa isa) : p_(std::move(params)), isa_(isa) {}

  Dims shape(const StepShapes& in) const override { return in.inputs[0]; }
  bool goes_by_rows() const noexcept override { return true; }
  Planned plan(const StepShapes&, const Dims& y) const override {
    return {plan_pointwise_f32(p_.function, p_.args, element_count(y), isa_), 0, nullptr};
  }

 private:
  Params p_;
  Isa isa_;
};

struct GatedParams {
  std::string function;
  std::vector<double> args;

  explicit GatedParams(const StepView& s) : function(s.text("function")), args(s.floats("args")) {
    require_same_rank(s);
    s.require(s.input(1).rank() == s.input(0).rank(), "x and y are of different rank");
    try {
      plan_gated_f32(function, args, 0);
    } catch (const std::invalid_argument& error) {
      s.fail(error.what());
    }
  }
};

class GatedStep : public StepKernel {
 public:
  using Params = GatedParams;
  GatedStep(Params params, Isa isa) : p_(std::move(params)), isa_(isa) {}

  Dims shape(const StepShapes& in) const override {
    if (in.inputs[0] != in.inputs[1])
      throw std::invalid_argument("a gate of shape " + to_string(in.inputs[0]) + " for " + to_string(in.inputs[1]));
    return in.inputs[0];
  }
  Planned plan(const StepShapes&, const Dims& y) const override {
    return {plan_gated_f32(p_.function, p_.args, element_count(y), isa_), 0, nullptr};
  }

 private:
  Params p_;
  Isa isa_;
};

struct MatmulParams {
  explicit MatmulParams(const StepView& s) {
    const size_t a = s.input(0).rank(), b = s.input(1).rank();
    s.require(a >= 2 && (b == a || b == 2),
              "operands are [..., m, k] and [..., k, n] of one rank, or the second a matrix");
    s.require(s.output().rank() == a, "the output's rank is not the first operand's");
  }
};

class MatmulStep : public StepKernel {
 public:
  using Params = MatmulParams;
  MatmulStep(Params, Isa) {}

  Dims shape(const StepShapes& in) const override {
    const Dims &a = in.inputs[0], &b = in.inputs[1];
    const bool batched = b.size() > 2 && !std::equal(a.begin(), a.end() - 2, b.begin());
    if (a.back() != b[b.size() - 2] || batched) {
      throw std::invalid_argument("shapes " + to_string(a) + " and " + to_string(b) + " do not multiply");
    }
    Dims y = a;
    y.back() = b.back();
    return y;
  }

  Planned plan(const StepShapes& in, const Dims& y) const override {
    const Dims &a = in.inputs[0], &b = in.inputs[1];
    const size_t r = a.size();
    const int64_t batch = product(a, 0, r - 2);
    if (b.size() == 2) return {plan_matmul_f32(1, batch * a[r - 2], a[r - 1], y[r - 1]), 0, nullptr};
    return {plan_matmul_f32(batch, a[r - 2], a[r - 1], y[r - 1]), 0, nullptr};
  }
};

}  // namespace

std::vector<KernelRow> float_op_rows() {
  return {kernel_row<SoftmaxStep>("softmax"),         kernel_row<CausalSoftmaxStep>("causal_softmax"),
          kernel_row<SoftmaxStep>("log_softmax"),     kernel_row<RowNormStep>("layer_norm"),
          kernel_row<RowNormStep>("rms_norm"),        kernel_row<GroupNormStep>("group_norm"),
          kernel_row<FloatBinaryStep>("add_f32"),     kernel_row<FloatBinaryStep>("sub_f32"),
          kernel_row<FloatBinaryStep>("mul_f32"),     kernel_row<FloatBinaryStep>("div_f32"),
          kernel_row<PointwiseStep>("pointwise_f32"), kernel_row<MatmulStep>("matmul_f32"),
          kernel_row<GatedStep>("gated_f32")};
}

}  // namespace qfx
