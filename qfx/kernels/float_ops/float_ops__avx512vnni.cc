#include <immintrin.h>

#include "float_ops/kernels.h"

namespace qfx::float_ops {
namespace {

double added(__m512d lanes, const float* x, int64_t n, double mean, bool squared) noexcept {
  alignas(64) double at[kLanes];
  _mm512_store_pd(at, lanes);
  for (int64_t k = 0; k < n; ++k) {
    const double v = static_cast<double>(x[k]) - mean;
    at[k] += squared ? v * v : v;
  }
  return ((at[0] + at[1]) + (at[2] + at[3])) + ((at[4] + at[5]) + (at[6] + at[7]));
}

__m512d widened(const float* x) noexcept {
  return _mm512_cvtps_pd(_mm256_loadu_ps(x));
}

double sum_of(const float* x, int64_t n) noexcept {
  __m512d sum = _mm512_setzero_pd();
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) sum = _mm512_add_pd(sum, widened(x + i));
  return added(sum, x + i, n - i, 0.0, false);
}

double sum_of_squares(const float* x, int64_t n, double mean) noexcept {
  const __m512d m = _mm512_set1_pd(mean);
  __m512d sum = _mm512_setzero_pd();
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const __m512d v = _mm512_sub_pd(widened(x + i), m);
    sum = _mm512_add_pd(sum, _mm512_mul_pd(v, v));
  }
  return added(sum, x + i, n - i, mean, true);
}

}  // namespace

void normalize_row_f32__avx512vnni(const float* x, float* y, int64_t n, double eps, const double* weight,
                                   const double* bias) noexcept {
  const double count = static_cast<double>(n), mean = sum_of(x, n) / count;
  const double scale = 1.0 / __builtin_sqrt(sum_of_squares(x, n, mean) / count + eps);
  const __m512d m = _mm512_set1_pd(mean), s = _mm512_set1_pd(scale);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const __m512d v = _mm512_mul_pd(_mm512_sub_pd(widened(x + i), m), s);
    const __m512d out = _mm512_add_pd(_mm512_mul_pd(v, _mm512_loadu_pd(weight + i)), _mm512_loadu_pd(bias + i));
    _mm256_storeu_ps(y + i, _mm512_cvtpd_ps(out));
  }
  for (; i < n; ++i) y[i] = static_cast<float>((static_cast<double>(x[i]) - mean) * scale * weight[i] + bias[i]);
}

}  // namespace qfx::float_ops
