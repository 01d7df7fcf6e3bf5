#include <immintrin.h>

#include "recurrent/cell.h"

namespace qfx::recurrent {
namespace {

typedef float Floats __attribute__((vector_size(32)));
typedef uint32_t Words __attribute__((vector_size(32)));

template <>
inline Floats least(Floats a, Floats b) noexcept {
  return _mm256_min_ps(a, b);
}
template <>
inline Floats most(Floats a, Floats b) noexcept {
  return _mm256_max_ps(a, b);
}

// Four codes, widened, four times.
inline __m256i four(const uint8_t* x) noexcept {
  int32_t bytes;
  __builtin_memcpy(&bytes, x, sizeof bytes);
  return _mm256_cvtepu8_epi16(_mm_set1_epi32(bytes));
}
// Four outputs' weights of a step, widened.
inline __m256i weights(const std::byte* w) noexcept {
  return _mm256_cvtepi8_epi16(_mm_load_si128(reinterpret_cast<const __m128i*>(w)));
}

// R rows by one vector. vpmaddwd over widened codes and weights can't saturate; it leaves two sums for each output.
template <int R>
void tile(const Panel& p, const uint8_t* x, int64_t x_stride, int v, int32_t* acc) noexcept {
  __m256i sum[R][4];
  for (int r = 0; r < R; ++r)
    for (__m256i& s : sum[r]) s = _mm256_setzero_si256();
  const std::byte* w = p.weight + v * kLanes * kDepth;
  for (int64_t step = 0; step < p.steps; ++step, x += kDepth, w += p.vectors * kLanes * kDepth) {
    __m256i a[R];
    for (int r = 0; r < R; ++r) a[r] = four(x + r * x_stride);
#pragma GCC unroll 4
    for (int q = 0; q < 4; ++q) {
      const __m256i b = weights(w + 16 * q);
      for (int r = 0; r < R; ++r) sum[r][q] = _mm256_add_epi32(sum[r][q], _mm256_madd_epi16(a[r], b));
    }
  }
  for (int r = 0; r < R; ++r)
    for (int q = 0; q < 4; q += 2) {
      const __m256i mixed = _mm256_hadd_epi32(sum[r][q], sum[r][q + 1]);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(acc + r * p.vectors * kLanes + v * kLanes + 4 * q),
                          _mm256_permute4x64_epi64(mixed, 0xd8));
    }
}

template <int R>
void half_tile(const Panel& p, const float* x, int64_t x_stride, float* y, int64_t y_stride, int v) noexcept {
  __m256 acc[R][2];
  for (int r = 0; r < R; ++r) acc[r][0] = acc[r][1] = _mm256_setzero_ps();
  for (int64_t i = 0; i < p.steps; ++i) {
    const auto* at = reinterpret_cast<const __m128i*>(p.weight) + (i * p.vectors + v) * 2;
    const __m256 low = _mm256_cvtph_ps(_mm_load_si128(at)), high = _mm256_cvtph_ps(_mm_load_si128(at + 1));
    for (int r = 0; r < R; ++r) {
      const __m256 a = _mm256_set1_ps(x[r * x_stride + i]);
      acc[r][0] = _mm256_add_ps(acc[r][0], _mm256_mul_ps(a, low));
      acc[r][1] = _mm256_add_ps(acc[r][1], _mm256_mul_ps(a, high));
    }
  }
  for (int r = 0; r < R; ++r)
    for (int half = 0; half < 2; ++half) {
      const int64_t o = v * kLanes + 8 * half;
      _mm256_storeu_ps(y + r * y_stride + o, _mm256_add_ps(acc[r][half], _mm256_loadu_ps(p.bias + o)));
    }
}

}  // namespace

void product_u8s8_2x16c4__avx2(const Panel& panel, const Codes& codes, int64_t rows, float* y,
                               int64_t y_stride) noexcept {
  alignas(32) int32_t acc[2 * kVectors * kLanes];
  for (int64_t r = 0; r < rows; r += 2) {
    const int64_t n = rows - r < 2 ? 1 : 2;
    Codes two = codes;
    two.x += r * codes.stride;
    if (codes.sum != nullptr) two.sum += r;
    for (int v = 0; v < panel.vectors; ++v) {
      if (n == 2)
        tile<2>(panel, two.x, codes.stride, v, acc);
      else
        tile<1>(panel, two.x, codes.stride, v, acc);
    }
    finish<Floats, Words>(panel, two, n, acc, y + r * y_stride, y_stride);
  }
}

void product_f32f16_2x16c1__avx2(const Panel& panel, const float* x, int64_t x_stride, int64_t rows, float* y,
                                 int64_t y_stride) noexcept {
  for (int v = 0; v < panel.vectors; ++v) {
    int64_t r = 0;
    for (; r + 2 <= rows; r += 2) half_tile<2>(panel, x + r * x_stride, x_stride, y + r * y_stride, y_stride, v);
    if (r < rows) half_tile<1>(panel, x + r * x_stride, x_stride, y + r * y_stride, y_stride, v);
  }
}

void lstm_f32_x8__avx2(const CellBlock& block) noexcept {
  lstm<Floats>(block);
}
void gru_f32_x8__avx2(const CellBlock& block) noexcept {
  gru<Floats>(block);
}
void rnn_tanh_f32_x8__avx2(const CellBlock& block) noexcept {
  rnn_tanh<Floats>(block);
}
void rnn_relu_f32_x8__avx2(const CellBlock& block) noexcept {
  rnn_relu<Floats>(block);
}
void extent_f32_x8__avx2(const float* x, int64_t n, float* low, float* high) noexcept {
  extent<Floats>(x, n, low, high);
}

}  // namespace qfx::recurrent
