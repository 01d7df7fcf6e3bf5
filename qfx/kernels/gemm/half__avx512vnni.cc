#include <immintrin.h>

#include "gemm/half.h"

namespace qfx::gemm {
namespace {

// R rows by all vectors.
template <int R>
void half_tile(const HalfPanel& p, const float* x, int64_t x_row, float* y, int64_t y_row, int v) noexcept {
  __m512 acc[R];
  for (int r = 0; r < R; ++r) acc[r] = _mm512_setzero_ps();
  for (int64_t i = 0; i < p.steps; ++i) {
    const auto* at = reinterpret_cast<const __m256i*>(p.weight) + i * p.vectors + v;
    const __m512 w = _mm512_cvtph_ps(_mm256_load_si256(at));
    for (int r = 0; r < R; ++r) acc[r] = _mm512_add_ps(acc[r], _mm512_mul_ps(_mm512_set1_ps(x[r * x_row + i]), w));
  }
  for (int r = 0; r < R; ++r)
    _mm512_storeu_ps(y + r * y_row + v * kHalfLanes, _mm512_add_ps(acc[r], _mm512_loadu_ps(p.bias + v * kHalfLanes)));
}

// One row by V vectors.
template <int V>
void half_row(const HalfPanel& p, const float* x, float* y) noexcept {
  __m512 acc[V];
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) acc[v] = _mm512_setzero_ps();
  const auto* w = reinterpret_cast<const __m256i*>(p.weight);
  for (int64_t i = 0; i < p.steps; ++i, w += V) {
    const __m512 a = _mm512_set1_ps(x[i]);
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v)
      acc[v] = _mm512_add_ps(acc[v], _mm512_mul_ps(a, _mm512_cvtph_ps(_mm256_load_si256(w + v))));
  }
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v)
    _mm512_storeu_ps(y + v * kHalfLanes, _mm512_add_ps(acc[v], _mm512_loadu_ps(p.bias + v * kHalfLanes)));
}

}  // namespace

void gemm_f32f16_4x64c1__avx512vnni(const HalfPanel& panel, const float* x, int64_t x_row, int64_t rows, float* y,
                                    int64_t y_row) noexcept {
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4)
    for (int v = 0; v < panel.vectors; ++v) half_tile<4>(panel, x + r * x_row, x_row, y + r * y_row, y_row, v);
  for (; r < rows; ++r) {
    const float* row = x + r * x_row;
    float* to = y + r * y_row;
    switch (panel.vectors) {
      case 1:
        half_row<1>(panel, row, to);
        break;
      case 2:
        half_row<2>(panel, row, to);
        break;
      case 3:
        half_row<3>(panel, row, to);
        break;
      default:
        half_row<4>(panel, row, to);
    }
  }
}

}  // namespace qfx::gemm
