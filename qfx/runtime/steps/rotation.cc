#include "rotation/rotation.h"

#include "core/nest.h"
#include "runtime/steps/step.h"

namespace qfx {
namespace {

struct RotateParams {
  int64_t block;

  explicit RotateParams(const StepView& s) : block(s.integer("block")) {
    s.require(s.input(0).rank() >= 1 && s.input(0).rank() == s.output().rank(), "x and y are of one rank, 1 at least");
    s.require((block & (block - 1)) == 0, "'block' is no power of two");
  }
};

class RotateStep : public StepKernel {
 public:
  using Params = RotateParams;
  RotateStep(Params params, Isa isa) : p_(params), isa_(isa) {}

  Dims shape(const StepShapes& in) const override {
    const Dims& x = in.inputs[0];
    if (x.back() % p_.block != 0)
      throw std::invalid_argument("rows of " + std::to_string(x.back()) + " are no blocks of " +
                                  std::to_string(p_.block));
    return x;
  }

  bool goes_by_rows() const noexcept override { return true; }
  Planned plan(const StepShapes&, const Dims& y) const override {
    return {plan_rotate(element_count(y) / p_.block, p_.block, isa_), 0, nullptr};
  }
  std::unique_ptr<Work> plan_quantizing(const StepShapes& in, const QuantizedRows& how) const override {
    return plan_rotate_rows(element_count(in.inputs[0]) / in.inputs[0].back(), p_.block, how);
  }

 private:
  Params p_;
  Isa isa_;
};

}  // namespace

std::vector<KernelRow> rotation_rows() {
  return {kernel_row<RotateStep>("rotate")};
}

}  // namespace qfx
