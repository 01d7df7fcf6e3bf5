#include "attention/attention.h"

#include <algorithm>
#include <array>
#include <stdexcept>

#include "runtime/shapes.h"
#include "runtime/steps/step.h"

namespace qfx {
namespace {

constexpr size_t kDims = 4;
enum Dim { kBatch, kHeads, kRows, kColumns };

struct AttentionStepParams {
  AttentionParams attention;
  std::vector<size_t> q, k, v, out;

  explicit AttentionStepParams(const StepView& s)
      : q(s.places("q_perm", kDims)),
        k(s.places("k_perm", kDims)),
        v(s.places("v_perm", kDims)),
        out(s.places("perm", kDims)) {
    bool ranks = s.output().rank() == kDims;
    for (size_t i = 0; i < s.input_count(); ++i) ranks = ranks && s.input(i).rank() == kDims;
    s.require(ranks, "operands and result are [batch, heads, rows, columns]");
    for (const auto* places : {&q, &k, &v, &out})
      s.require(places->back() == kColumns, "the columns of q, k, v and the result are last in memory");
    attention.factor = s.multiplier("factor");
    attention.causal = s.flag("causal");
    if (s.input_count() > kMaskInput)
      attention.mask =
          s.input(kMaskInput).dtype == DType::boolean ? attention::MaskType::visible : attention::MaskType::additive;
  }

  static constexpr size_t kMaskInput = 3;
};

// The lengths of a tensor in the order of Dim, and its strides: 0 in batches and heads of length 1, which broadcast.
struct Located {
  Dims size, stride;

  Located(const Dims& shape, const std::vector<size_t>& places) {
    const Dims strides = dense_strides(shape);
    for (const size_t at : places) {
      size.push_back(shape[at]);
      stride.push_back(size.size() <= kRows && shape[at] == 1 ? 0 : strides[at]);
    }
  }
  HeadStrides strides() const { return {stride[kBatch], stride[kHeads], stride[kRows]}; }
};

// 1 is any length.
int64_t joint(int64_t a, int64_t b) {
  return a == 1 ? b : a;
}

// What there is of batches and heads.
struct Heads {
  int64_t batch, heads, key_heads;

  Heads(const Dims& q, const Dims& k, const Dims& v)
      : batch(joint(q[kBatch], joint(k[kBatch], v[kBatch]))),
        heads(joint(q[kHeads], joint(k[kHeads], v[kHeads]))),
        key_heads(joint(k[kHeads], v[kHeads])) {}
};

class AttentionStep : public StepKernel {
 public:
  using Params = AttentionStepParams;
  static constexpr bool copies_constants = true;
  AttentionStep(Params params, Isa isa) : p_(std::move(params)), isa_(isa) {}

  Dims shape(const StepShapes& in) const override {
    const Located q(in.inputs[0], p_.q), k(in.inputs[1], p_.k), v(in.inputs[2], p_.v);
    const Heads all(q.size, k.size, v.size);
    check(all, q.size, k.size, v.size);
    if (in.inputs.size() > Params::kMaskInput)
      check_mask(in.inputs[Params::kMaskInput], {all.batch, all.heads, q.size[kRows], k.size[kRows]});
    Dims y(kDims);
    y[p_.out[kBatch]] = all.batch;
    y[p_.out[kHeads]] = all.heads;
    y[p_.out[kRows]] = q.size[kRows];
    y[p_.out[kColumns]] = v.size[kColumns];
    return y;
  }

  Planned plan(const StepShapes& in, const Dims& y) const override {
    const Located q(in.inputs[0], p_.q), k(in.inputs[1], p_.k), v(in.inputs[2], p_.v), out(y, p_.out);
    const Heads all(q.size, k.size, v.size);
    AttentionShape s;
    s.batch = all.batch;
    s.heads = all.heads;
    s.key_heads = all.key_heads;
    s.queries = q.size[kRows];
    s.keys = k.size[kRows];
    s.depth = q.size[kColumns];
    s.width = v.size[kColumns];
    s.q = q.strides();
    s.k = k.strides();
    s.v = v.strides();
    s.out = out.strides();
    if (p_.attention.mask != attention::MaskType::none) {
      const Dims& mask = in.inputs[Params::kMaskInput];
      const Dims strides = dense_strides(mask);
      const auto stride = [&](Dim d) { return mask[d] == 1 ? 0 : strides[d]; };
      s.mask_batch = stride(kBatch);
      s.mask_head = stride(kHeads);
      s.mask_row = stride(kRows);
      s.mask_column = stride(kColumns);
    }
    return {plan_attention(p_.attention, s, isa_), 0, nullptr};
  }

  bool mixes_images(const StepShapes&) const override {
    const auto is_first = [](const std::vector<size_t>* places) { return places->front() == 0; };
    return !std::ranges::all_of(std::array{&p_.q, &p_.k, &p_.v, &p_.out}, is_first);
  }

 private:
  static void check(const Heads& all, const Dims& q, const Dims& k, const Dims& v) {
    const auto require = [&](bool holds, const char* what) {
      if (holds) return;
      throw std::invalid_argument("q " + to_string(q) + ", k " + to_string(k) + " and v " + to_string(v) +
                                  " as [batch, heads, rows, columns]: " + what);
    };
    const auto fits = [](int64_t length, int64_t joint) { return length == 1 || length == joint; };
    bool batches = true;
    for (const Dims* x : {&q, &k, &v}) batches = batches && fits((*x)[kBatch], all.batch);
    require(batches, "their batches do not broadcast");
    require(fits(k[kHeads], all.key_heads) && fits(v[kHeads], all.key_heads), "the heads of k and v do not broadcast");
    require(k[kRows] == v[kRows], "k and v have not the same rows");
    require(q[kColumns] == k[kColumns], "q and k have not the same columns");
    require(all.key_heads == 0 ? all.heads == 0 : all.heads % all.key_heads == 0,
            "the heads of q are not a multiple of those of k");
  }

  static void check_mask(const Dims& mask, const Dims& full) {
    for (size_t d = 0; d < kDims; ++d)
      if (mask[d] != full[d] && mask[d] != 1)
        throw std::invalid_argument("a mask " + to_string(mask) + " does not broadcast to " + to_string(full));
  }

  Params p_;
  Isa isa_;
};

}  // namespace

std::vector<KernelRow> attention_rows() {
  return {kernel_row<AttentionStep>("attention")};
}

}  // namespace qfx
