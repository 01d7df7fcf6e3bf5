#include "rotary/rotary.h"

#include <algorithm>
#include <stdexcept>

#include "runtime/shapes.h"
#include "runtime/steps/step.h"

namespace qfx {
namespace {

struct RotaryParams {
  int64_t length;
  bool interleaved;
  Dims perm;

  explicit RotaryParams(const StepView& s)
      : length(s.integer("length")), interleaved(s.integer("interleaved") != 0), perm(s.ints("perm")) {
    const size_t rank = s.input(0).rank();
    s.require(rank >= 1 && s.output().rank() == rank, "x and y are of one rank, 1 at least");
    s.require(s.input(1).rank() <= rank && s.input(2).rank() <= rank, "'cos' or 'sin' has more dims than x");
    s.require(length % 2 == 0, "'length' is odd");
    Dims sorted = perm;
    std::ranges::sort(sorted);
    for (size_t d = 0; d < rank; ++d) s.require(sorted[d] == static_cast<int64_t>(d), "'perm' is no order of dims");
    s.require(perm.back() == static_cast<int64_t>(rank) - 1, "'perm' has another dim last");
  }
};

class RotaryStep : public StepKernel {
 public:
  using Params = RotaryParams;
  RotaryStep(Params params, Isa isa) : p_(std::move(params)), isa_(isa) {}

  Dims shape(const StepShapes& in) const override {
    const Dims& x = in.inputs[0];
    if (x.back() < p_.length)
      throw std::invalid_argument("rows of " + std::to_string(x.back()) + " are shorter than the " +
                                  std::to_string(p_.length) + " that turn");
    const Dims cos = pad_rank(in.inputs[1], x.size()), sin = pad_rank(in.inputs[2], x.size());
    for (const Dims& angles : {cos, sin}) {
      if (angles.back() != cos.back() || (angles.back() != p_.length && 2 * angles.back() != p_.length))
        throw std::invalid_argument("angles of " + std::to_string(angles.back()) + " for " + std::to_string(p_.length) +
                                    " numbers");
      for (size_t d = 0; d + 1 < x.size(); ++d) {
        const int64_t own = angles[static_cast<size_t>(p_.perm[d])];
        if (own != 1 && own != x[d])
          throw std::invalid_argument("angles of shape " + to_string(angles) + " do not fit " + to_string(x));
      }
    }
    return x;
  }

  Planned plan(const StepShapes& in, const Dims& y) const override {
    const RotaryProblem problem{.shape = y,
                                .cos = strides(in.inputs[1], y.size()),
                                .sin = strides(in.inputs[2], y.size()),
                                .pairs = p_.length / 2,
                                .interleaved = p_.interleaved,
                                .shared_cos = in.inputs[1].back() != p_.length};
    return {plan_rotary(problem, isa_), 0, nullptr};
  }

  bool mixes_images(const StepShapes&) const override { return p_.perm.front() != 0; }

 private:
  // Of the rows of cos or sin along the dims of x as they lie in memory; 0 where there is one row for all.
  Dims strides(const Dims& given, size_t rank) const {
    const Dims dims = pad_rank(given, rank), dense = dense_strides(dims);
    Dims made;
    for (size_t d = 0; d + 1 < rank; ++d) {
      const auto from = static_cast<size_t>(p_.perm[d]);
      made.push_back(dims[from] == 1 ? 0 : dense[from]);
    }
    return made;
  }

  Params p_;
  Isa isa_;
};

}  // namespace

std::vector<KernelRow> rotary_rows() {
  return {kernel_row<RotaryStep>("rotary")};
}

}  // namespace qfx
