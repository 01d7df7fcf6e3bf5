#include <immintrin.h>

#include "glue/kernels.h"

namespace qfx::glue {
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

// The sums over the lanes of a, b, c, d.
__m128i totals(__m256i a, __m256i b, __m256i c, __m256i d) noexcept {
  const __m256i abcd = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
  return _mm_add_epi32(_mm256_castsi256_si128(abcd), _mm256_extracti128_si256(abcd, 1));
}

__m256i codes16(const uint8_t* x) noexcept {
  return _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x)));
}
__m256i weights16(const int8_t* w) noexcept {
  return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w)));
}

int64_t at_most(int64_t i, int64_t last) noexcept {
  return i < last ? i : last;
}

// Two rows and four outputs; those past the last are computed from the last and not stored. vpmaddwd over
// widened codes and weights cannot saturate.
void tile(const DotBlock& b, int64_t r, int64_t o) noexcept {
  const uint8_t* x[] = {b.x + r * b.x_stride, b.x + at_most(r + 1, b.rows - 1) * b.x_stride};
  const int8_t* w[4];
  for (int64_t j = 0; j < 4; ++j) w[j] = b.w + at_most(o + j, b.outputs - 1) * b.w_stride;
  __m256i a00 = _mm256_setzero_si256(), a01 = a00, a02 = a00, a03 = a00, a10 = a00, a11 = a00, a12 = a00, a13 = a00;
  int64_t i = 0;
  for (; i + 16 <= b.k; i += 16) {
    const __m256i u0 = codes16(x[0] + i), u1 = codes16(x[1] + i);
    const __m256i v0 = weights16(w[0] + i), v1 = weights16(w[1] + i), v2 = weights16(w[2] + i),
                  v3 = weights16(w[3] + i);
    a00 = _mm256_add_epi32(a00, _mm256_madd_epi16(u0, v0));
    a01 = _mm256_add_epi32(a01, _mm256_madd_epi16(u0, v1));
    a02 = _mm256_add_epi32(a02, _mm256_madd_epi16(u0, v2));
    a03 = _mm256_add_epi32(a03, _mm256_madd_epi16(u0, v3));
    a10 = _mm256_add_epi32(a10, _mm256_madd_epi16(u1, v0));
    a11 = _mm256_add_epi32(a11, _mm256_madd_epi16(u1, v1));
    a12 = _mm256_add_epi32(a12, _mm256_madd_epi16(u1, v2));
    a13 = _mm256_add_epi32(a13, _mm256_madd_epi16(u1, v3));
  }
  alignas(16) int32_t sum[2][4];
  _mm_store_si128(reinterpret_cast<__m128i*>(sum[0]), totals(a00, a01, a02, a03));
  _mm_store_si128(reinterpret_cast<__m128i*>(sum[1]), totals(a10, a11, a12, a13));
  for (int64_t p = 0; p < at_most(b.rows - r, 2); ++p)
    for (int64_t q = 0; q < at_most(b.outputs - o, 4); ++q) {
      int32_t total = sum[p][q];
      for (int64_t t = i; t < b.k; ++t) total += x[p][t] * w[q][t];
      b.acc[(r + p) * b.acc_stride + o + q] = total;
    }
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

void dot_u8s8s32_2x4c16__avx2(const DotBlock& block) noexcept {
  for (int64_t o = 0; o < block.outputs; o += 4)
    for (int64_t r = 0; r < block.rows; r += 2) tile(block, r, o);
}

}  // namespace qfx::glue
