#include "elementwise/elementwise.h"

#include <algorithm>

#include "runtime/shapes.h"
#include "runtime/steps/step.h"

namespace qfx {
namespace {

struct BinaryParams {
  BinaryQuant quant;
  std::span<const uint8_t> lut;

  explicit BinaryParams(const StepView& s) {
    quant.op = s.step().op == "add" ? BinaryOp::add : (s.step().op == "sub" ? BinaryOp::sub : BinaryOp::mul);
    quant.a_zero_point = s.zero_point("a_zero_point");
    quant.b_zero_point = s.zero_point("b_zero_point");
    quant.zero_point = s.zero_point("zero_point");
    quant.a_multiplier = s.multiplier("a_multiplier");
    if (quant.op != BinaryOp::mul) quant.b_multiplier = s.multiplier("b_multiplier");
    s.clamp(&quant.lo, &quant.hi);
    lut = s.data<uint8_t>("lut", 256);
    s.require(s.output().rank() == std::max(s.input(0).rank(), s.input(1).rank()),
              "the output's rank is not that of the inputs broadcast");
  }
};

class BinaryStep : public StepKernel {
 public:
  using Params = BinaryParams;
  BinaryStep(Params params, Isa isa) : p_(std::move(params)), isa_(isa) {}

  Dims shape(const StepShapes& in) const override { return broadcast(in.inputs[0], in.inputs[1]); }
  Planned plan(const StepShapes& in, const Dims& y) const override {
    const size_t rank = std::max<size_t>(y.size(), 1);
    return {plan_binary_u8(p_.quant, pad_rank(in.inputs[0], rank), pad_rank(in.inputs[1], rank), p_.lut, isa_), 0,
            nullptr};
  }

 private:
  Params p_;
  Isa isa_;
};

struct LookupParams {
  std::span<const uint8_t> u8;
  std::span<const float> f32;

  explicit LookupParams(const StepView& s) {
    const bool to_f32 = s.output().dtype == DType::f32;
    if (to_f32) {
      f32 = s.data<float>("table", 256);
    } else {
      u8 = s.data<uint8_t>("table", 256);
    }
    s.require(s.output().rank() == s.input(0).rank(), "the output's rank is not the input's");
  }
};

class LookupStep : public StepKernel {
 public:
  using Params = LookupParams;
  LookupStep(Params params, Isa isa) : p_(std::move(params)), isa_(isa) {}

  Dims shape(const StepShapes& in) const override { return in.inputs[0]; }
  Planned plan(const StepShapes&, const Dims& y) const override {
    const int64_t n = element_count(y);
    return {p_.f32.empty() ? plan_lookup_u8(n, p_.u8, isa_) : plan_lookup_f32(n, p_.f32, isa_), 0, nullptr};
  }

 private:
  Params p_;
  Isa isa_;
};

}  // namespace

std::vector<KernelRow> elementwise_rows() {
  return {kernel_row<BinaryStep>("add"), kernel_row<BinaryStep>("sub"), kernel_row<BinaryStep>("mul"),
          kernel_row<LookupStep>("lookup")};
}

}  // namespace qfx
