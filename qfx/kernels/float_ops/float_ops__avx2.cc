#include <immintrin.h>

#include "float_ops/kernels.h"

namespace qfx::float_ops {
namespace {

// kLanes partial sums.
struct Lanes {
  __m256d low = _mm256_setzero_pd(), high = _mm256_setzero_pd();

  void add(__m256d a, __m256d b) noexcept {
    low = _mm256_add_pd(low, a);
    high = _mm256_add_pd(high, b);
  }

  double sum(const float* x, int64_t n, double mean, bool squared) const noexcept {
    alignas(32) double at[kLanes];
    _mm256_store_pd(at, low);
    _mm256_store_pd(at + 4, high);
    for (int64_t k = 0; k < n; ++k) {
      const double v = static_cast<double>(x[k]) - mean;
      at[k] += squared ? v * v : v;
    }
    return ((at[0] + at[1]) + (at[2] + at[3])) + ((at[4] + at[5]) + (at[6] + at[7]));
  }
};

__m256d widened(const float* x) noexcept {
  return _mm256_cvtps_pd(_mm_loadu_ps(x));
}

double sum_of(const float* x, int64_t n) noexcept {
  Lanes lanes;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) lanes.add(widened(x + i), widened(x + i + 4));
  return lanes.sum(x + i, n - i, 0.0, false);
}

double sum_of_squares(const float* x, int64_t n, double mean) noexcept {
  const __m256d m = _mm256_set1_pd(mean);
  Lanes lanes;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const __m256d a = _mm256_sub_pd(widened(x + i), m), b = _mm256_sub_pd(widened(x + i + 4), m);
    lanes.add(_mm256_mul_pd(a, a), _mm256_mul_pd(b, b));
  }
  return lanes.sum(x + i, n - i, mean, true);
}

}  // namespace

void normalize_row_f32__avx2(const float* x, float* y, int64_t n, double eps, const double* weight,
                             const double* bias) noexcept {
  const double count = static_cast<double>(n), mean = sum_of(x, n) / count;
  const double scale = 1.0 / __builtin_sqrt(sum_of_squares(x, n, mean) / count + eps);
  const __m256d m = _mm256_set1_pd(mean), s = _mm256_set1_pd(scale);
  int64_t i = 0;
  for (; i + 4 <= n; i += 4) {
    const __m256d v = _mm256_mul_pd(_mm256_sub_pd(widened(x + i), m), s);
    const __m256d out = _mm256_add_pd(_mm256_mul_pd(v, _mm256_loadu_pd(weight + i)), _mm256_loadu_pd(bias + i));
    _mm_storeu_ps(y + i, _mm256_cvtpd_ps(out));
  }
  for (; i < n; ++i) y[i] = static_cast<float>((static_cast<double>(x[i]) - mean) * scale * weight[i] + bias[i]);
}

}  // namespace qfx::float_ops
