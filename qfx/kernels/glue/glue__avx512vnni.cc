#include "core/requant_avx512.h"
#include "glue/kernels.h"

namespace qfx::glue {
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

// One step of a 4x4 tile; asm because gcc 12 copies accumulators around the intrinsic.
inline void dot(__m512i& acc, __m512i x, __m512i w) noexcept {
  __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(x), "v"(w));
}

// The sums over the lanes of a, b, c, d.
__m128i totals(__m512i a, __m512i b, __m512i c, __m512i d) noexcept {
  const __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
  const __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
  const __m512i abcd = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
  const __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(abcd), _mm512_extracti64x4_epi64(abcd, 1));
  return _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

int64_t at_most(int64_t i, int64_t last) noexcept {
  return i < last ? i : last;
}

// Rows and outputs past the last are computed from the last and not stored.
void tile(const DotBlock& b, int64_t r, int64_t o) noexcept {
  const uint8_t* x0 = b.x + r * b.x_stride;
  const uint8_t* x1 = b.x + at_most(r + 1, b.rows - 1) * b.x_stride;
  const uint8_t* x2 = b.x + at_most(r + 2, b.rows - 1) * b.x_stride;
  const uint8_t* x3 = b.x + at_most(r + 3, b.rows - 1) * b.x_stride;
  const int8_t* w0 = b.w + o * b.w_stride;
  const int8_t* w1 = b.w + at_most(o + 1, b.outputs - 1) * b.w_stride;
  const int8_t* w2 = b.w + at_most(o + 2, b.outputs - 1) * b.w_stride;
  const int8_t* w3 = b.w + at_most(o + 3, b.outputs - 1) * b.w_stride;
  __m512i a00 = _mm512_setzero_si512(), a01 = a00, a02 = a00, a03 = a00;
  __m512i a10 = a00, a11 = a00, a12 = a00, a13 = a00;
  __m512i a20 = a00, a21 = a00, a22 = a00, a23 = a00;
  __m512i a30 = a00, a31 = a00, a32 = a00, a33 = a00;
  for (int64_t i = 0; i < b.k; i += 64) {
    const __mmask64 mask = first_bytes(b.k - i);
    const __m512i v0 = _mm512_maskz_loadu_epi8(mask, w0 + i), v1 = _mm512_maskz_loadu_epi8(mask, w1 + i);
    const __m512i v2 = _mm512_maskz_loadu_epi8(mask, w2 + i), v3 = _mm512_maskz_loadu_epi8(mask, w3 + i);
    const __m512i u0 = _mm512_maskz_loadu_epi8(mask, x0 + i), u1 = _mm512_maskz_loadu_epi8(mask, x1 + i);
    dot(a00, u0, v0), dot(a01, u0, v1), dot(a02, u0, v2), dot(a03, u0, v3);
    dot(a10, u1, v0), dot(a11, u1, v1), dot(a12, u1, v2), dot(a13, u1, v3);
    const __m512i u2 = _mm512_maskz_loadu_epi8(mask, x2 + i), u3 = _mm512_maskz_loadu_epi8(mask, x3 + i);
    dot(a20, u2, v0), dot(a21, u2, v1), dot(a22, u2, v2), dot(a23, u2, v3);
    dot(a30, u3, v0), dot(a31, u3, v1), dot(a32, u3, v2), dot(a33, u3, v3);
  }
  const __m128i rows[] = {totals(a00, a01, a02, a03), totals(a10, a11, a12, a13), totals(a20, a21, a22, a23),
                          totals(a30, a31, a32, a33)};
  const __mmask8 mask = static_cast<__mmask8>((1u << at_most(b.outputs - o, 4)) - 1);
  for (int64_t i = 0; i < at_most(b.rows - r, 4); ++i)
    _mm_mask_storeu_epi32(b.acc + (r + i) * b.acc_stride + o, mask, rows[i]);
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

void dot_u8s8s32_4x4c64__avx512vnni(const DotBlock& block) noexcept {
  for (int64_t o = 0; o < block.outputs; o += 4)
    for (int64_t r = 0; r < block.rows; r += 4) tile(block, r, o);
}

}  // namespace qfx::glue
