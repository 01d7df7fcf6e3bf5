#include <immintrin.h>

#include "gemm/in_order.h"
#include "gemm/in_order_chunks.h"

namespace qfx::gemm {
namespace {

struct Floats {
  __m256 low, high;
};

// The weights of one vector of columns, step by step.
template <Stored S>
class Weights {
 public:
  static constexpr int64_t kBytes = S == Stored::f16 || S == Stored::bf16 ? 2 * kHalfLanes : kHalfLanes;

  Weights(const InOrderPanel& p, int v) noexcept
      : p_(p), at_(p.weight + v * kBytes), stride_(p.vectors * kBytes), v_(v) {}

  void begin_group(int64_t g) noexcept {
    if constexpr (S == Stored::s8 || S == Stored::s4) {
      const int64_t i = (g * p_.vectors + v_) * kHalfLanes;
      scale_ = p_.half_scale ? halves(p_.scale + 2 * i) : floats(reinterpret_cast<const float*>(p_.scale) + i);
      zero_[0] = zero_[1] = _mm256_set1_epi32(p_.origin);
      if (p_.zero_point != nullptr) widen(_mm_load_si128(reinterpret_cast<const __m128i*>(p_.zero_point + i)), zero_);
    }
  }

  Floats at(int64_t step) const noexcept {
    if constexpr (S == Stored::f16) return halves(at_ + step * stride_);
    if constexpr (S == Stored::bf16) return brains(at_ + step * stride_);
    __m256i code[2];
    if constexpr (S == Stored::s8) widen(_mm_load_si128(reinterpret_cast<const __m128i*>(at_ + step * stride_)), code);
    if constexpr (S == Stored::s4) {
      const __m128i both = _mm_load_si128(reinterpret_cast<const __m128i*>(at_ + step / 2 * stride_));
      const __m128i half = _mm_srl_epi16(both, _mm_cvtsi32_si128(static_cast<int>(step % 2 * 4)));
      widen(_mm_and_si128(half, _mm_set1_epi8(15)), code);
    }
    return {_mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(code[0], zero_[0])), scale_.low),
            _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(code[1], zero_[1])), scale_.high)};
  }

  void store(int64_t step, float* to) const noexcept {
    const Floats w = at(step);
    _mm256_store_ps(to, w.low);
    _mm256_store_ps(to + 8, w.high);
  }

 private:
  static Floats halves(const std::byte* from) noexcept {
    const auto* at = reinterpret_cast<const __m128i*>(from);
    return {_mm256_cvtph_ps(_mm_load_si128(at)), _mm256_cvtph_ps(_mm_load_si128(at + 1))};
  }
  static Floats brains(const std::byte* from) noexcept {
    const auto* at = reinterpret_cast<const __m128i*>(from);
    return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_load_si128(at)), 16)),
            _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_load_si128(at + 1)), 16))};
  }
  static Floats floats(const float* from) noexcept { return {_mm256_load_ps(from), _mm256_load_ps(from + 8)}; }
  static void widen(__m128i bytes, __m256i* to) noexcept {
    to[0] = _mm256_cvtepi8_epi32(bytes);
    to[1] = _mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8));
  }

  const InOrderPanel& p_;
  const std::byte* at_;
  int64_t stride_;
  int v_;
  Floats scale_;
  __m256i zero_[2];
};

template <Stored S, int R>
void tile(const InOrderPanel& p, const float* x, int64_t x_row, float* y, int64_t y_row, int v) noexcept {
  Floats acc[R];
  for (int r = 0; r < R; ++r) acc[r] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
  Weights<S> weights(p, v);
  for (int64_t i = 0; i < p.steps;) {
    weights.begin_group(i / p.group);
    for (const int64_t end = i + p.group; i < end; ++i) {
      const Floats w = weights.at(i);
      for (int r = 0; r < R; ++r) {
        const __m256 a = _mm256_set1_ps(x[r * x_row + i]);
        acc[r].low = _mm256_add_ps(acc[r].low, _mm256_mul_ps(a, w.low));
        acc[r].high = _mm256_add_ps(acc[r].high, _mm256_mul_ps(a, w.high));
      }
    }
  }
  const float* bias = p.bias + v * kHalfLanes;
  for (int r = 0; r < R; ++r) {
    float* to = y + r * y_row + v * kHalfLanes;
    _mm256_storeu_ps(to, _mm256_add_ps(acc[r].low, _mm256_load_ps(bias)));
    _mm256_storeu_ps(to + 8, _mm256_add_ps(acc[r].high, _mm256_load_ps(bias + 8)));
  }
}

struct Products {
  template <int R, int V>
  static void add(const float* w, int64_t steps, const float* x, int64_t x_row, float* y, int64_t y_row) noexcept {
    static_assert(V == 1, "more columns leave no registers");
    Floats acc[R];
    for (int r = 0; r < R; ++r) acc[r] = {_mm256_loadu_ps(y + r * y_row), _mm256_loadu_ps(y + r * y_row + 8)};
    for (int64_t i = 0; i < steps; ++i, w += kHalfLanes) {
      const Floats by = {_mm256_load_ps(w), _mm256_load_ps(w + 8)};
      for (int r = 0; r < R; ++r) {
        const __m256 a = _mm256_set1_ps(x[r * x_row + i]);
        acc[r].low = _mm256_add_ps(acc[r].low, _mm256_mul_ps(a, by.low));
        acc[r].high = _mm256_add_ps(acc[r].high, _mm256_mul_ps(a, by.high));
      }
    }
    for (int r = 0; r < R; ++r) {
      _mm256_storeu_ps(y + r * y_row, acc[r].low);
      _mm256_storeu_ps(y + r * y_row + 8, acc[r].high);
    }
  }
};

template <Stored S>
void in_order(const InOrderPanel& p, const float* x, int64_t x_row, int64_t rows, float* y, int64_t y_row) noexcept {
  for (int v = 0; v < p.vectors; ++v) {
    if (rows >= kManyRows) {
      by_chunks<Weights<S>, Products, 1>(p, v, x, x_row, rows, y, y_row);
      continue;
    }
    int64_t r = 0;
    for (; r + 4 <= rows; r += 4) tile<S, 4>(p, x + r * x_row, x_row, y + r * y_row, y_row, v);
    for (; r + 2 <= rows; r += 2) tile<S, 2>(p, x + r * x_row, x_row, y + r * y_row, y_row, v);
    if (r < rows) tile<S, 1>(p, x + r * x_row, x_row, y + r * y_row, y_row, v);
  }
}

}  // namespace

QFX_DEFINE_IN_ORDER(gemm_f32f16_4x16c1__avx2, f16)
QFX_DEFINE_IN_ORDER(gemm_f32bf16_4x16c1__avx2, bf16)
QFX_DEFINE_IN_ORDER(gemm_f32s8_4x16c1__avx2, s8)
QFX_DEFINE_IN_ORDER(gemm_f32s4_4x16c1__avx2, s4)

}  // namespace qfx::gemm
