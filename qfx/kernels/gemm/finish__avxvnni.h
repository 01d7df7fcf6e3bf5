#pragma once
// Epilogues of four vectors at once, for *__avxvnni.cc files only. Internal linkage, as in finish__avx2.h.
#include <type_traits>

#include "core/requant_avx2.h"
#include "gemm/finish__avx2.h"

namespace qfx::gemm {
namespace {

enum class Ending { plain, residual, general };

// Plain or with a residual: `width` whole columns of u8 from `first` on, without a table, of values that s32 holds.
inline Ending ending_of(const Output& out, int64_t first, int64_t width) noexcept {
  const Epilogue& e = *out.epilogue;
  if (e.f32_output || !e.bounded || e.lut != nullptr || out.row_bias != nullptr || out.columns < first + width) {
    return Ending::general;
  }
  return out.residual == nullptr ? Ending::plain : Ending::residual;
}

// run(the ending of those columns, as a constant).
template <class Run>
void by_ending(const Output& out, int64_t first, int64_t width, Run&& run) noexcept {
  switch (ending_of(out, first, width)) {
    case Ending::plain:
      return run(std::integral_constant<Ending, Ending::plain>());
    case Ending::residual:
      return run(std::integral_constant<Ending, Ending::residual>());
    case Ending::general:
      return run(std::integral_constant<Ending, Ending::general>());
  }
}

// N rows by V vectors of eight columns, from row `row` and column `first` on. `acc` is row by row.
template <int N, int V, Ending kEnding>
inline void finish_rows(const Output& out, int64_t row, int64_t first, const __m256i (&acc)[N * V]) noexcept {
  if constexpr (kEnding == Ending::general) {
    for (int i = 0; i < N * V; ++i) finish_eight(out, row + i / V, first + i % V * 8, acc[i]);
    return;
  }
  const Epilogue& e = *out.epilogue;
  const Requantize32 requantize(e.zero_point, e.lo, e.hi);
  uint8_t* y = static_cast<uint8_t*>(out.y) + row * out.y_row + first;
  const auto value_of = [&](int i) {
    const __m256 v = _mm256_mul_ps(_mm256_cvtepi32_ps(acc[i]), _mm256_loadu_ps(out.multiplier + first + i % V * 8));
    if constexpr (kEnding == Ending::plain) return _mm256_cvtps_epi32(v);
    const uint8_t* codes = out.residual + (row + i / V) * out.residual_row + first + i % V * 8;
    const __m256i wide = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(codes)));
    const __m256i r = _mm256_sub_epi32(wide, _mm256_set1_epi32(e.residual_zero_point));
    const __m256 share = _mm256_mul_ps(_mm256_cvtepi32_ps(r), _mm256_set1_ps(e.residual_multiplier));
    return _mm256_cvtps_epi32(_mm256_add_ps(v, share));
  };
#pragma GCC unroll 3
  for (int i = 0; i < N * V; i += 4) {
    const auto at = [&](int j) { return i + j < N * V ? i + j : N * V - 1; };  // the last one again where none is left
    const __m256i codes = requantize(value_of(at(0)), value_of(at(1)), value_of(at(2)), value_of(at(3)));
    const __m128i low = _mm256_castsi256_si128(codes), high = _mm256_extracti128_si256(codes, 1);
    if constexpr (V == 2) {
      const auto to = [&](int j) { return reinterpret_cast<__m128i*>(y + at(j) / V * out.y_row); };
      _mm_storeu_si128(to(0), low);
      if (i + 2 < N * V) _mm_storeu_si128(to(2), high);
      continue;
    }
    const auto to = [&](int j) { return y + at(j) / V * out.y_row + at(j) % V * 8; };
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to(0)), low);
    _mm_storeh_pi(reinterpret_cast<__m64*>(to(1)), _mm_castsi128_ps(low));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to(2)), high);
    _mm_storeh_pi(reinterpret_cast<__m64*>(to(3)), _mm_castsi128_ps(high));
  }
}

}  // namespace
}  // namespace qfx::gemm
