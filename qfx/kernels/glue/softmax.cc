#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "core/nest.h"
#include "glue/glue.h"

namespace qfx {
namespace {

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
        log_ ? run_log(x + at, y + at) : run_plain(x + at, y + at, exps);
      }
    });
  }

  size_t scratch_bytes() const noexcept override { return log_ ? 0 : static_cast<size_t>(n_) * sizeof(double); }
  int64_t cost() const noexcept override { return 40 * outer_ * n_ * inner_; }
  std::string describe() const override { return log_ ? "log_softmax" : "softmax"; }

 private:
  double highest(const float* x) const noexcept {
    float most = -INFINITY;
    for (int64_t i = 0; i < n_; ++i) most = std::max(most, x[i * inner_]);
    return static_cast<double>(most);
  }

  void run_plain(const float* x, float* y, double* exps) const noexcept {
    const double most = highest(x);
    double sum = 0.0;
    for (int64_t i = 0; i < n_; ++i) sum += exps[i] = std::exp(static_cast<double>(x[i * inner_]) - most);
    for (int64_t i = 0; i < n_; ++i) y[i * inner_] = static_cast<float>(exps[i] / sum);
  }

  void run_log(const float* x, float* y) const noexcept {
    const double most = highest(x);
    double sum = 0.0;
    for (int64_t i = 0; i < n_; ++i) sum += std::exp(static_cast<double>(x[i * inner_]) - most);
    const double shift = std::log(sum);
    for (int64_t i = 0; i < n_; ++i)
      y[i * inner_] = static_cast<float>(static_cast<double>(x[i * inner_]) - most - shift);
  }

  int64_t outer_, n_, inner_;
  bool log_;
};

}  // namespace

std::unique_ptr<Work> plan_softmax(int64_t outer, int64_t n, int64_t inner, bool log) {
  if (outer < 0 || n < 0 || inner < 0) throw std::invalid_argument("a negative dimension");
  return std::make_unique<SoftmaxWork>(outer, n, inner, log);
}

}  // namespace qfx
