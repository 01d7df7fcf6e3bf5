#include "rotary/rotary.h"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "core/nest.h"
#include "rotary/kernels.h"

namespace qfx {
namespace {

Nest<2> rows_of(const RotaryProblem& p) {
  const std::vector<int64_t> strides[] = {p.cos, p.sin};
  return collapse({p.shape.begin(), p.shape.end() - 1}, strides);
}

template <class Kind>
class RotaryWork final : public Work {
 public:
  RotaryWork(const RotaryProblem& p, Isa isa)
      : rows_(rows_of(p)),
        length_(p.shape.back()),
        pairs_(p.pairs),
        shared_(p.shared_cos),
        kernel_(rotary::select<Kind>(isa)) {}

  void run(const void* const* in, void* const* out, std::byte*, int tid, int threads) const noexcept override {
    const auto* cos = static_cast<const float*>(in[1]);
    const auto* sin = static_cast<const float*>(in[2]);
    const Range part = split(rows_.count(), tid, threads);
    if (part.begin >= part.end) return;
    const float* x = static_cast<const float*>(in[0]) + part.begin * length_;
    float* y = static_cast<float*>(out[0]) + part.begin * length_;
    Cursor<2> at(rows_, part.begin);
    for (int64_t row = part.begin; row < part.end; ++row, x += length_, y += length_, at.advance()) {
      kernel_.run(x, cos + at.offset[0], sin + at.offset[1], y, pairs_, shared_);
      std::copy(x + 2 * pairs_, x + length_, y + 2 * pairs_);
    }
  }

  int64_t cost() const noexcept override { return 12 * rows_.count() * length_; }
  std::vector<const char*> kernels() const override { return {kernel_.name}; }

 private:
  Nest<2> rows_;
  int64_t length_, pairs_;
  bool shared_;
  Kernel<Kind> kernel_;
};

}  // namespace

std::unique_ptr<Work> plan_rotary(const RotaryProblem& problem, Isa isa) {
  element_count(problem.shape);
  if (problem.pairs < 0 || 2 * problem.pairs > problem.shape.back())
    throw std::invalid_argument("rows of " + std::to_string(problem.shape.back()) + " have no " +
                                std::to_string(problem.pairs) + " pairs");
  if (problem.interleaved) return std::make_unique<RotaryWork<rotary::Pairs>>(problem, isa);
  return std::make_unique<RotaryWork<rotary::Halves>>(problem, isa);
}

}  // namespace qfx
