#include "attention/attention.h"

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

// The lengths of a tensor in the order of Dim, and its strides.
struct Located {
  Dims size, stride;

  Located(const Dims& shape, const std::vector<size_t>& places) {
    const Dims strides = dense_strides(shape);
    for (const size_t at : places) {
      size.push_back(shape[at]);
      stride.push_back(strides[at]);
    }
  }
  HeadStrides strides() const { return {stride[kBatch], stride[kHeads], stride[kRows]}; }
};

class AttentionStep : public StepKernel {
 public:
  using Params = AttentionStepParams;
  static constexpr bool copies_constants = true;
  AttentionStep(Params params, Isa isa) : p_(std::move(params)), isa_(isa) {}

  Dims shape(const StepShapes& in) const override {
    const Located q(in.inputs[0], p_.q), k(in.inputs[1], p_.k), v(in.inputs[2], p_.v);
    check(q.size, k.size, v.size);
    if (in.inputs.size() > Params::kMaskInput) check_mask(in.inputs[Params::kMaskInput], q.size, k.size);
    Dims y(kDims);
    for (const Dim d : {kBatch, kHeads, kRows}) y[p_.out[d]] = q.size[d];
    y[p_.out[kColumns]] = v.size[kColumns];
    return y;
  }

  Planned plan(const StepShapes& in, const Dims& y) const override {
    const Located q(in.inputs[0], p_.q), k(in.inputs[1], p_.k), v(in.inputs[2], p_.v), out(y, p_.out);
    AttentionShape s;
    s.batch = q.size[kBatch];
    s.heads = q.size[kHeads];
    s.key_heads = k.size[kHeads];
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

 private:
  static void check(const Dims& q, const Dims& k, const Dims& v) {
    const auto require = [&](bool holds, const char* what) {
      if (holds) return;
      throw std::invalid_argument("q " + to_string(q) + ", k " + to_string(k) + " and v " + to_string(v) +
                                  " as [batch, heads, rows, columns]: " + what);
    };
    require(q[kBatch] == k[kBatch] && k[kBatch] == v[kBatch], "their batches are not of one length");
    require(k[kHeads] == v[kHeads] && k[kRows] == v[kRows], "k and v have not the same heads and rows");
    require(q[kColumns] == k[kColumns], "q and k have not the same columns");
    require(k[kHeads] == 0 ? q[kHeads] == 0 : q[kHeads] % k[kHeads] == 0,
            "the heads of q are not a multiple of those of k");
  }

  static void check_mask(const Dims& mask, const Dims& q, const Dims& k) {
    const Dims full{q[kBatch], q[kHeads], q[kRows], k[kRows]};
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
