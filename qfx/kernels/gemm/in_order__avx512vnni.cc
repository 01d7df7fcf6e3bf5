#if defined(__GNUC__) && !defined(__clang__)
// gcc 12's own intrinsics start from "undefined" vectors and warn about themselves (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

#include "gemm/in_order.h"
#include "gemm/in_order_chunks.h"

namespace qfx::gemm {
namespace {

// The weights of one vector of columns, step by step.
template <Stored S>
class Weights {
 public:
  static constexpr int64_t kBytes = S == Stored::f16 || S == Stored::bf16 ? 2 * kHalfLanes : kHalfLanes;

  Weights() noexcept = default;
  Weights(const InOrderPanel& p, int v) noexcept
      : p_(&p), at_(p.weight + v * kBytes), stride_(p.vectors * kBytes), v_(v) {}

  void begin_group(int64_t g) noexcept {
    if constexpr (S == Stored::s8 || S == Stored::s4) {
      const InOrderPanel& p = *p_;
      const int64_t i = (g * p.vectors + v_) * kHalfLanes;
      scale_ = p.half_scale ? halves(p.scale + 2 * i) : _mm512_load_ps(reinterpret_cast<const float*>(p.scale) + i);
      zero_ = _mm512_set1_epi32(p.origin);
      if (p.zero_point != nullptr) {
        zero_ = _mm512_cvtepi8_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(p.zero_point + i)));
      }
    }
  }

  void store(int64_t step, float* to) const noexcept { _mm512_store_ps(to, at(step)); }

  __m512 at(int64_t step) const noexcept {
    if constexpr (S == Stored::f16) return halves(at_ + step * stride_);
    if constexpr (S == Stored::bf16) {
      const __m256i bits = _mm256_load_si256(reinterpret_cast<const __m256i*>(at_ + step * stride_));
      return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
    }
    __m512i code;
    if constexpr (S == Stored::s8) {
      code = _mm512_cvtepi8_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(at_ + step * stride_)));
    }
    if constexpr (S == Stored::s4) {
      const __m128i both = _mm_load_si128(reinterpret_cast<const __m128i*>(at_ + step / 2 * stride_));
      const __m512i wide =
          _mm512_srl_epi32(_mm512_cvtepu8_epi32(both), _mm_cvtsi32_si128(static_cast<int>(step % 2 * 4)));
      code = _mm512_and_si512(wide, _mm512_set1_epi32(15));
    }
    return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(code, zero_)), scale_);
  }

 private:
  static __m512 halves(const std::byte* from) noexcept {
    return _mm512_cvtph_ps(_mm256_load_si256(reinterpret_cast<const __m256i*>(from)));
  }

  const InOrderPanel* p_ = nullptr;
  const std::byte* at_ = nullptr;
  int64_t stride_ = 0;
  int v_ = 0;
  __m512 scale_;
  __m512i zero_;
};

// R rows by V vectors, from vector v on.
template <Stored S, int R, int V>
void tile(const InOrderPanel& p, const float* x, int64_t x_row, float* y, int64_t y_row, int v) noexcept {
  __m512 acc[R][V];
  Weights<S> weights[V];
#pragma GCC unroll 4
  for (int c = 0; c < V; ++c) {
    weights[c] = Weights<S>(p, v + c);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) acc[r][c] = _mm512_setzero_ps();
  }
  for (int64_t i = 0; i < p.steps;) {
#pragma GCC unroll 4
    for (int c = 0; c < V; ++c) weights[c].begin_group(i / p.group);
    for (const int64_t end = i + p.group; i < end; ++i) {
      __m512 w[V];
#pragma GCC unroll 4
      for (int c = 0; c < V; ++c) w[c] = weights[c].at(i);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const __m512 a = _mm512_set1_ps(x[r * x_row + i]);
#pragma GCC unroll 4
        for (int c = 0; c < V; ++c) acc[r][c] = _mm512_add_ps(acc[r][c], _mm512_mul_ps(a, w[c]));
      }
    }
  }
#pragma GCC unroll 4
  for (int c = 0; c < V; ++c) {
    const int64_t o = (v + c) * kHalfLanes;
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
      _mm512_storeu_ps(y + r * y_row + o, _mm512_add_ps(acc[r][c], _mm512_load_ps(p.bias + o)));
  }
}

// R rows by all vectors.
template <Stored S, int R>
void rows_of(const InOrderPanel& p, const float* x, int64_t x_row, float* y, int64_t y_row) noexcept {
  int v = 0;
  for (; v + 2 <= p.vectors; v += 2) tile<S, R, 2>(p, x, x_row, y, y_row, v);
  if (v < p.vectors) tile<S, R, 1>(p, x, x_row, y, y_row, v);
}

template <Stored S>
void one_row(const InOrderPanel& p, const float* x, float* y) noexcept {
  switch (p.vectors) {
    case 1:
      return tile<S, 1, 1>(p, x, 0, y, 0, 0);
    case 2:
      return tile<S, 1, 2>(p, x, 0, y, 0, 0);
    case 3:
      return tile<S, 1, 3>(p, x, 0, y, 0, 0);
    default:
      return tile<S, 1, 4>(p, x, 0, y, 0, 0);
  }
}

struct Products {
  template <int R, int V>
  static void add(const float* w, int64_t steps, const float* x, int64_t x_row, float* y, int64_t y_row) noexcept {
    __m512 acc[R][V];
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int c = 0; c < V; ++c) acc[r][c] = _mm512_loadu_ps(y + r * y_row + c * kHalfLanes);
    for (int64_t i = 0; i < steps; ++i, w += V * kHalfLanes) {
#pragma GCC unroll 6
      for (int r = 0; r < R; ++r) {
        const __m512 a = _mm512_set1_ps(x[r * x_row + i]);
#pragma GCC unroll 4
        for (int c = 0; c < V; ++c)
          acc[r][c] = _mm512_add_ps(acc[r][c], _mm512_mul_ps(a, _mm512_load_ps(w + c * kHalfLanes)));
      }
    }
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int c = 0; c < V; ++c) _mm512_storeu_ps(y + r * y_row + c * kHalfLanes, acc[r][c]);
  }
};

template <Stored S>
void many_rows(const InOrderPanel& p, const float* x, int64_t x_row, int64_t rows, float* y, int64_t y_row) noexcept {
  switch (p.vectors) {
    case 1:
      return by_chunks<Weights<S>, Products, 1>(p, 0, x, x_row, rows, y, y_row);
    case 2:
      return by_chunks<Weights<S>, Products, 2>(p, 0, x, x_row, rows, y, y_row);
    case 3:
      return by_chunks<Weights<S>, Products, 3>(p, 0, x, x_row, rows, y, y_row);
    default:
      return by_chunks<Weights<S>, Products, static_cast<int>(kHalfVectors)>(p, 0, x, x_row, rows, y, y_row);
  }
}

template <Stored S>
void in_order(const InOrderPanel& p, const float* x, int64_t x_row, int64_t rows, float* y, int64_t y_row) noexcept {
  if (rows >= kManyRows) return many_rows<S>(p, x, x_row, rows, y, y_row);
  int64_t r = 0;
  for (; r + 8 <= rows; r += 8) rows_of<S, 8>(p, x + r * x_row, x_row, y + r * y_row, y_row);
  for (; r + 4 <= rows; r += 4) rows_of<S, 4>(p, x + r * x_row, x_row, y + r * y_row, y_row);
  for (; r < rows; ++r) one_row<S>(p, x + r * x_row, y + r * y_row);
}

}  // namespace

QFX_DEFINE_IN_ORDER(gemm_f32f16_8x32c1__avx512vnni, f16)
QFX_DEFINE_IN_ORDER(gemm_f32bf16_8x32c1__avx512vnni, bf16)
QFX_DEFINE_IN_ORDER(gemm_f32s8_8x32c1__avx512vnni, s8)
QFX_DEFINE_IN_ORDER(gemm_f32s4_8x32c1__avx512vnni, s4)

}  // namespace qfx::gemm
