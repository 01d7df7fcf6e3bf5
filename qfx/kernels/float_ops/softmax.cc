#include <algorithm>
#include <stdexcept>

#include "core/nest.h"
#include "float_ops/float_ops.h"
#include "float_ops/kernels.h"

namespace qfx {
namespace {

using float_ops::SoftmaxColumns;
using float_ops::SoftmaxRow;

// Over rows that lie together.
class SoftmaxRowsWork final : public Work {
 public:
  SoftmaxRowsWork(int64_t rows, int64_t n, bool log, Isa isa)
      : rows_(rows), n_(n), log_(log), kernel_(float_ops::select<SoftmaxRow>(isa)) {}

  void run(const void* const* in, void* const* out, std::byte*, int tid, int threads) const noexcept override {
    const auto* x = static_cast<const float*>(in[0]);
    auto* y = static_cast<float*>(out[0]);
    const Range part = split(rows_, tid, threads);
    for (int64_t row = part.begin; row < part.end; ++row) kernel_.run(x + row * n_, y + row * n_, n_, log_);
  }

  int64_t cost() const noexcept override { return 8 * rows_ * n_; }
  std::vector<const char*> kernels() const override { return {kernel_.name}; }

 private:
  int64_t rows_, n_;
  bool log_;
  Kernel<SoftmaxRow> kernel_;
};

class SoftmaxColumnsWork final : public Work {
 public:
  SoftmaxColumnsWork(int64_t outer, int64_t n, int64_t inner, bool log, Isa isa)
      : outer_(outer), n_(n), inner_(inner), log_(log), kernel_(float_ops::select<SoftmaxColumns>(isa)) {}

  void run(const void* const* in, void* const* out, std::byte*, int tid, int threads) const noexcept override {
    const auto* x = static_cast<const float*>(in[0]);
    auto* y = static_cast<float*>(out[0]);
    const Range part = split(outer_ * inner_, tid, threads, 16);
    for_each_row(part, inner_, [&](int64_t row, int64_t first, int64_t columns) {
      const int64_t at = row * n_ * inner_ + first;
      kernel_.run(x + at, y + at, n_, inner_, columns, log_);
    });
  }

  int64_t cost() const noexcept override { return 12 * outer_ * n_ * inner_; }
  std::vector<const char*> kernels() const override { return {kernel_.name}; }

 private:
  int64_t outer_, n_, inner_;
  bool log_;
  Kernel<SoftmaxColumns> kernel_;
};

class CausalSoftmaxWork final : public Work {
 public:
  CausalSoftmaxWork(int64_t rows, int64_t period, int64_t n, Isa isa)
      : rows_(rows), period_(period), n_(n), kernel_(float_ops::select<SoftmaxRow>(isa)) {}

  void run(const void* const* in, void* const* out, std::byte*, int tid, int threads) const noexcept override {
    const auto [first, last] = split(rows_, tid, threads);
    for (int64_t row = first; row < last; ++row) {
      const auto* x = static_cast<const float*>(in[0]) + row * n_;
      auto* y = static_cast<float*>(out[0]) + row * n_;
      const int64_t kept = std::min(n_, row % period_ + 1);
      kernel_.run(x, y, kept, false);
      std::fill(y + kept, y + n_, 0.0f);
    }
  }

  int64_t cost() const noexcept override { return 4 * rows_ * n_; }
  std::vector<const char*> kernels() const override { return {kernel_.name}; }

 private:
  int64_t rows_, period_, n_;
  Kernel<SoftmaxRow> kernel_;
};

}  // namespace

std::unique_ptr<Work> plan_causal_softmax(int64_t rows, int64_t period, int64_t n, Isa isa) {
  if (rows < 0 || period < 0 || n < 0) throw std::invalid_argument("a negative dimension");
  return std::make_unique<CausalSoftmaxWork>(rows, period, n, isa);
}

std::unique_ptr<Work> plan_softmax(int64_t outer, int64_t n, int64_t inner, bool log, Isa isa) {
  if (outer < 0 || n < 0 || inner < 0) throw std::invalid_argument("a negative dimension");
  if (inner == 1) return std::make_unique<SoftmaxRowsWork>(outer, n, log, isa);
  return std::make_unique<SoftmaxColumnsWork>(outer, n, inner, log, isa);
}

}  // namespace qfx
