#include "core/requant_avx512.h"
#include "recurrent/cell.h"

namespace qfx::recurrent {
namespace {

typedef float Floats __attribute__((vector_size(64)));

template <>
inline Floats least(Floats a, Floats b) noexcept {
  return _mm512_min_ps(a, b);
}
template <>
inline Floats most(Floats a, Floats b) noexcept {
  return _mm512_max_ps(a, b);
}

// Inline assembly: gcc 12 copies accumulators around the intrinsic.
inline void dot(__m512i& acc, __m512i x, __m512i w) noexcept {
  __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(x), "v"(w));
}
inline __m512i four(const uint8_t* x) noexcept {
  int32_t bytes;
  __builtin_memcpy(&bytes, x, sizeof bytes);
  return _mm512_set1_epi32(bytes);
}

// R rows by V vectors. One row or two keep two sums for each output, since one chain of additions is slower than the
// weights come.
template <int R, int V>
void tile(const Panel& p, const Codes& codes, int64_t first, float* y, int64_t y_stride) noexcept {
  constexpr int kSums = R == 1 ? 2 : 1;
  __m512i acc[kSums][R][V];
#pragma GCC unroll 2
  for (int k = 0; k < kSums; ++k)
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) acc[k][r][v] = _mm512_setzero_si512();
  const uint8_t* x = codes.x + first * codes.stride;
  const auto* w = reinterpret_cast<const __m512i*>(p.weight);
  const int64_t stride = codes.stride;
  int64_t step = p.steps;
  const auto take = [&](int k) __attribute__((always_inline)) {
    __m512i b[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) b[v] = _mm512_load_si512(w + v);
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      const __m512i a = four(x + r * stride);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) dot(acc[k][r][v], a, b[v]);
    }
    x += kDepth;
    w += V;
  };
  if constexpr (kSums == 2)
    for (; step > 1; step -= 2) take(0), take(1);
  for (; step > 0; --step) take(0);
  const __m512i x_zero_point = _mm512_set1_epi32(codes.zero_point);
  const __m512 x_scale = _mm512_set1_ps(codes.scale);
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) {
    const __m512i offset = _mm512_mullo_epi32(_mm512_loadu_si512(p.sum + v * kLanes), x_zero_point);
    const __m512 m = _mm512_mul_ps(_mm512_loadu_ps(p.scale + v * kLanes), x_scale);
    const __m512 bias = _mm512_loadu_ps(p.bias + v * kLanes);
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      __m512i sum = acc[0][r][v];
      if constexpr (kSums == 2) sum = _mm512_add_epi32(sum, acc[1][r][v]);
      sum = _mm512_sub_epi32(sum, offset);
      if (p.zero_point != nullptr) {
        const __m512i z = _mm512_loadu_si512(p.zero_point + v * kLanes);
        sum = _mm512_sub_epi32(sum, _mm512_mullo_epi32(z, _mm512_set1_epi32(codes.sum[first + r])));
      }
      _mm512_storeu_ps(y + (first + r) * y_stride + v * kLanes,
                       _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sum), m), bias));
    }
  }
}

template <int R, int V>
void tile_of(const Panel& p, const Codes& codes, int64_t rows, int64_t first, float* y, int64_t y_stride) noexcept {
  if (rows >= R) return tile<R, V>(p, codes, first, y, y_stride);
  if constexpr (R > 1) tile_of<R - 1, V>(p, codes, rows, first, y, y_stride);
}

constexpr int64_t kRows = 6;

// Tiles of nearly equal size, so that none is left with a single row.
template <int V>
void tiles(const Panel& p, const Codes& codes, int64_t rows, float* y, int64_t y_stride) noexcept {
  for (int64_t first = 0, left = (rows + kRows - 1) / kRows; left > 0; --left) {
    const int64_t size = (rows - first + left - 1) / left;
    tile_of<kRows, V>(p, codes, size, first, y, y_stride);
    first += size;
  }
}

// R rows by all vectors.
template <int R>
void half_tile(const Panel& p, const float* x, int64_t x_stride, float* y, int64_t y_stride, int v) noexcept {
  __m512 acc[R];
  for (int r = 0; r < R; ++r) acc[r] = _mm512_setzero_ps();
  for (int64_t i = 0; i < p.steps; ++i) {
    const auto* at = reinterpret_cast<const __m256i*>(p.weight) + i * p.vectors + v;
    const __m512 w = _mm512_cvtph_ps(_mm256_load_si256(at));
    for (int r = 0; r < R; ++r) acc[r] = _mm512_add_ps(acc[r], _mm512_mul_ps(_mm512_set1_ps(x[r * x_stride + i]), w));
  }
  for (int r = 0; r < R; ++r)
    _mm512_storeu_ps(y + r * y_stride + v * kLanes, _mm512_add_ps(acc[r], _mm512_loadu_ps(p.bias + v * kLanes)));
}

// One row by V vectors.
template <int V>
void half_row(const Panel& p, const float* x, float* y) noexcept {
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
    _mm512_storeu_ps(y + v * kLanes, _mm512_add_ps(acc[v], _mm512_loadu_ps(p.bias + v * kLanes)));
}

}  // namespace

void product_u8s8_6x64c4__avx512vnni(const Panel& panel, const Codes& codes, int64_t rows, float* y,
                                     int64_t y_stride) noexcept {
  switch (panel.vectors) {
    case 1:
      return tiles<1>(panel, codes, rows, y, y_stride);
    case 2:
      return tiles<2>(panel, codes, rows, y, y_stride);
    case 3:
      return tiles<3>(panel, codes, rows, y, y_stride);
    default:
      return tiles<4>(panel, codes, rows, y, y_stride);
  }
}

void product_f32f16_4x64c1__avx512vnni(const Panel& panel, const float* x, int64_t x_stride, int64_t rows, float* y,
                                       int64_t y_stride) noexcept {
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4)
    for (int v = 0; v < panel.vectors; ++v)
      half_tile<4>(panel, x + r * x_stride, x_stride, y + r * y_stride, y_stride, v);
  for (; r < rows; ++r) {
    const float* row = x + r * x_stride;
    float* to = y + r * y_stride;
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

void lstm_f32_x16__avx512vnni(const CellBlock& block) noexcept {
  lstm<Floats>(block);
}
void gru_f32_x16__avx512vnni(const CellBlock& block) noexcept {
  gru<Floats>(block);
}
void rnn_tanh_f32_x16__avx512vnni(const CellBlock& block) noexcept {
  rnn_tanh<Floats>(block);
}
void rnn_relu_f32_x16__avx512vnni(const CellBlock& block) noexcept {
  rnn_relu<Floats>(block);
}
void extent_f32_x16__avx512vnni(const float* x, int64_t n, float* low, float* high) noexcept {
  extent<Floats>(x, n, low, high);
}

}  // namespace qfx::recurrent
