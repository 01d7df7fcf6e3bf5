#include <cmath>

#include "float_ops/kernels.h"

namespace qfx::float_ops {
namespace {

struct Lanes {
  double at[kLanes] = {};

  double sum() const noexcept { return ((at[0] + at[1]) + (at[2] + at[3])) + ((at[4] + at[5]) + (at[6] + at[7])); }
};

// The sum of term(x[i]).
template <class Term>
double sum_of(const float* x, int64_t n, Term&& term) noexcept {
  Lanes lanes;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int64_t k = 0; k < kLanes; ++k) lanes.at[k] += term(static_cast<double>(x[i + k]));
  for (int64_t k = 0; i < n; ++i, ++k) lanes.at[k] += term(static_cast<double>(x[i]));
  return lanes.sum();
}

}  // namespace

void normalize_row_f32__scalar(const float* x, float* y, int64_t n, double eps, const double* weight,
                               const double* bias) noexcept {
  const double count = static_cast<double>(n);
  const double mean = sum_of(x, n, [](double v) { return v; }) / count;
  const double square = sum_of(x, n, [mean](double v) { return (v - mean) * (v - mean); });
  const double scale = 1.0 / std::sqrt(square / count + eps);
  for (int64_t i = 0; i < n; ++i)
    y[i] = static_cast<float>((static_cast<double>(x[i]) - mean) * scale * weight[i] + bias[i]);
}

}  // namespace qfx::float_ops
