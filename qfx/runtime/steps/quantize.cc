#include "elementwise/elementwise.h"

#include <algorithm>

#include "runtime/steps/step.h"

namespace qfx {
namespace {

struct LayoutParams {
  std::vector<int> perm;
  float scale;
  int32_t zero_point;

  explicit LayoutParams(const StepView& s)
      : perm(s.permutation("perm")), scale(s.multiplier("scale")), zero_point(s.zero_point("zero_point")) {
    s.require(s.output().rank() == perm.size(), "the output's rank is not the input's");
  }
};

Dims permuted(const Dims& dims, const std::vector<int>& perm) {
  Dims out(perm.size());
  for (size_t i = 0; i < perm.size(); ++i) out[i] = dims[perm[i]];
  return out;
}

class QuantizeStep : public StepKernel {
 public:
  using Params = LayoutParams;
  QuantizeStep(Params params, Isa isa) : p_(std::move(params)), isa_(isa) {}

  Dims shape(const StepShapes& in) const override { return permuted(in.inputs[0], p_.perm); }
  bool goes_by_rows() const noexcept override { return std::ranges::is_sorted(p_.perm); }
  RowWindow row_window() const noexcept override { return {1, 1, {}, p_.perm.size() == 4 ? p_.perm[1] : 1}; }
  Planned plan(const StepShapes& in, const Dims& y) const override {
    return {plan_quantize(y, permuted(in.strides[0], p_.perm), p_.scale, p_.zero_point, isa_), 0, nullptr};
  }

 private:
  Params p_;
  Isa isa_;
};

class DequantizeStep : public StepKernel {
 public:
  using Params = LayoutParams;
  DequantizeStep(Params params, Isa isa) : p_(std::move(params)), isa_(isa) {}

  Dims shape(const StepShapes& in) const override { return permuted(in.inputs[0], p_.perm); }
  Planned plan(const StepShapes& in, const Dims&) const override {
    return {plan_dequantize(in.inputs[0], p_.perm, p_.scale, p_.zero_point, isa_), 0, nullptr};
  }

 private:
  Params p_;
  Isa isa_;
};

}  // namespace

std::vector<KernelRow> quantize_rows() {
  return {kernel_row<QuantizeStep>("quantize"), kernel_row<DequantizeStep>("dequantize")};
}

}  // namespace qfx
