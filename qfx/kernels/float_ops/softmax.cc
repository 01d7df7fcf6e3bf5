#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "core/nest.h"
#include "float_ops/float_ops.h"

namespace qfx {
namespace {

double highest(const float* x, int64_t n, int64_t stride) noexcept {
  float most = -INFINITY;
  for (int64_t i = 0; i < n; ++i) most = std::max(most, x[i * stride]);
  return static_cast<double>(most);
}

void softmax(const float* x, float* y, int64_t n, int64_t stride, double* exps) noexcept {
  const double most = highest(x, n, stride);
  double sum = 0.0;
  for (int64_t i = 0; i < n; ++i) sum += exps[i] = std::exp(static_cast<double>(x[i * stride]) - most);
  for (int64_t i = 0; i < n; ++i) y[i * stride] = static_cast<float>(exps[i] / sum);
}

class SoftmaxWork final : public Work {
 public:
  SoftmaxWork(int64_t outer, int64_t n, int64_t inner, bool log) : outer_(outer), n_(n), inner_(inner), log_(log) {}

  void run(const void* const* in, void* const* out, std::byte* scratch, int tid, int threads) const noexcept override {
    const auto* x = static_cast<const float*>(in[0]);
    auto* y = static_cast<float*>(out[0]);
    auto* exps = reinterpret_cast<double*>(scratch);
    for_each_row(split(outer_ * inner_, tid, threads), inner_, [&](int64_t row, int64_t first, int64_t columns) {
      for (int64_t i = first; i < first + columns; ++i) {
        const int64_t at = row * n_ * inner_ + i;
        log_ ? run_log(x + at, y + at) : softmax(x + at, y + at, n_, inner_, exps);
      }
    });
  }

  size_t scratch_bytes() const noexcept override { return log_ ? 0 : static_cast<size_t>(n_) * sizeof(double); }
  int64_t cost() const noexcept override { return 40 * outer_ * n_ * inner_; }
  std::string details() const override { return log_ ? "log_softmax" : "softmax"; }

 private:
  void run_log(const float* x, float* y) const noexcept {
    const double most = highest(x, n_, inner_);
    double sum = 0.0;
    for (int64_t i = 0; i < n_; ++i) sum += std::exp(static_cast<double>(x[i * inner_]) - most);
    const double shift = std::log(sum);
    for (int64_t i = 0; i < n_; ++i)
      y[i * inner_] = static_cast<float>(static_cast<double>(x[i * inner_]) - most - shift);
  }

  int64_t outer_, n_, inner_;
  bool log_;
};

class CausalSoftmaxWork final : public Work {
 public:
  CausalSoftmaxWork(int64_t rows, int64_t period, int64_t n) : rows_(rows), period_(period), n_(n) {}

  void run(const void* const* in, void* const* out, std::byte* scratch, int tid, int threads) const noexcept override {
    auto* exps = reinterpret_cast<double*>(scratch);
    const auto [first, last] = split(rows_, tid, threads);
    for (int64_t row = first; row < last; ++row) {
      const auto* x = static_cast<const float*>(in[0]) + row * n_;
      auto* y = static_cast<float*>(out[0]) + row * n_;
      const int64_t kept = std::min(n_, row % period_ + 1);
      softmax(x, y, kept, 1, exps);
      std::fill(y + kept, y + n_, 0.0f);
    }
  }

  size_t scratch_bytes() const noexcept override { return static_cast<size_t>(n_) * sizeof(double); }
  int64_t cost() const noexcept override { return 20 * rows_ * n_; }
  std::string details() const override { return "causal_softmax"; }

 private:
  int64_t rows_, period_, n_;
};

}  // namespace

std::unique_ptr<Work> plan_causal_softmax(int64_t rows, int64_t period, int64_t n) {
  if (rows < 0 || period < 0 || n < 0) throw std::invalid_argument("a negative dimension");
  return std::make_unique<CausalSoftmaxWork>(rows, period, n);
}

std::unique_ptr<Work> plan_softmax(int64_t outer, int64_t n, int64_t inner, bool log) {
  if (outer < 0 || n < 0 || inner < 0) throw std::invalid_argument("a negative dimension");
  return std::make_unique<SoftmaxWork>(outer, n, inner, log);
}

}  // namespace qfx
