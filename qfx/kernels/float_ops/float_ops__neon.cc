#include <arm_neon.h>

#include "float_ops/kernels.h"

namespace qfx::float_ops {
namespace {

// kLanes partial sums.
struct Lanes {
  float64x2_t pair[4] = {vdupq_n_f64(0.0), vdupq_n_f64(0.0), vdupq_n_f64(0.0), vdupq_n_f64(0.0)};

  double sum(const float* x, int64_t n, double mean, bool squared) const noexcept {
    double at[kLanes];
    for (int k = 0; k < 4; ++k) vst1q_f64(at + 2 * k, pair[k]);
    for (int64_t k = 0; k < n; ++k) {
      const double v = static_cast<double>(x[k]) - mean;
      at[k] += squared ? v * v : v;
    }
    return ((at[0] + at[1]) + (at[2] + at[3])) + ((at[4] + at[5]) + (at[6] + at[7]));
  }
};

float64x2_t widened(const float* x) noexcept {
  return vcvt_f64_f32(vld1_f32(x));
}

double sum_of(const float* x, int64_t n) noexcept {
  Lanes lanes;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int k = 0; k < 4; ++k) lanes.pair[k] = vaddq_f64(lanes.pair[k], widened(x + i + 2 * k));
  return lanes.sum(x + i, n - i, 0.0, false);
}

double sum_of_squares(const float* x, int64_t n, double mean) noexcept {
  const float64x2_t m = vdupq_n_f64(mean);
  Lanes lanes;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int k = 0; k < 4; ++k) {
      const float64x2_t v = vsubq_f64(widened(x + i + 2 * k), m);
      lanes.pair[k] = vaddq_f64(lanes.pair[k], vmulq_f64(v, v));
    }
  return lanes.sum(x + i, n - i, mean, true);
}

}  // namespace

void normalize_row_f32__neon(const float* x, float* y, int64_t n, double eps, const double* weight,
                             const double* bias) noexcept {
  const double count = static_cast<double>(n), mean = sum_of(x, n) / count;
  const double scale = 1.0 / __builtin_sqrt(sum_of_squares(x, n, mean) / count + eps);
  const float64x2_t m = vdupq_n_f64(mean), s = vdupq_n_f64(scale);
  int64_t i = 0;
  for (; i + 2 <= n; i += 2) {
    const float64x2_t v = vmulq_f64(vsubq_f64(widened(x + i), m), s);
    vst1_f32(y + i, vcvt_f32_f64(vaddq_f64(vmulq_f64(v, vld1q_f64(weight + i)), vld1q_f64(bias + i))));
  }
  for (; i < n; ++i) y[i] = static_cast<float>((static_cast<double>(x[i]) - mean) * scale * weight[i] + bias[i]);
}

}  // namespace qfx::float_ops
