#include <immintrin.h>

#include "gemm/half.h"

namespace qfx::gemm {
namespace {

template <int R>
void half_tile(const HalfPanel& p, const float* x, int64_t x_row, float* y, int64_t y_row, int v) noexcept {
  __m256 acc[R][2];
  for (int r = 0; r < R; ++r) acc[r][0] = acc[r][1] = _mm256_setzero_ps();
  for (int64_t i = 0; i < p.steps; ++i) {
    const auto* at = reinterpret_cast<const __m128i*>(p.weight) + (i * p.vectors + v) * 2;
    const __m256 low = _mm256_cvtph_ps(_mm_load_si128(at)), high = _mm256_cvtph_ps(_mm_load_si128(at + 1));
    for (int r = 0; r < R; ++r) {
      const __m256 a = _mm256_set1_ps(x[r * x_row + i]);
      acc[r][0] = _mm256_add_ps(acc[r][0], _mm256_mul_ps(a, low));
      acc[r][1] = _mm256_add_ps(acc[r][1], _mm256_mul_ps(a, high));
    }
  }
  for (int r = 0; r < R; ++r)
    for (int half = 0; half < 2; ++half) {
      const int64_t o = v * kHalfLanes + 8 * half;
      _mm256_storeu_ps(y + r * y_row + o, _mm256_add_ps(acc[r][half], _mm256_loadu_ps(p.bias + o)));
    }
}

}  // namespace

void gemm_f32f16_2x16c1__avx2(const HalfPanel& panel, const float* x, int64_t x_row, int64_t rows, float* y,
                              int64_t y_row) noexcept {
  for (int v = 0; v < panel.vectors; ++v) {
    int64_t r = 0;
    for (; r + 2 <= rows; r += 2) half_tile<2>(panel, x + r * x_row, x_row, y + r * y_row, y_row, v);
    if (r < rows) half_tile<1>(panel, x + r * x_row, x_row, y + r * y_row, y_row, v);
  }
}

}  // namespace qfx::gemm
