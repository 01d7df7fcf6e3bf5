#pragma once
// For __avx2.cc files only: everything has internal linkage, so no baseline code can end up with it.
#include <immintrin.h>

#include <cstdint>

namespace qfx {
namespace {

// rint(v) of requantize(), as s32: what is beyond its clamp only has to stay beyond s16. v is not NaN.
inline __m256i rounded(__m256 v) noexcept {
  return _mm256_cvtps_epi32(_mm256_min_ps(v, _mm256_set1_ps(65536.0f)));
}

// The rest of requantize(), for 32 values in order.
struct Requantize32 {
  __m256i zero_point, lo, hi, order;

  Requantize32(int32_t zp, int32_t low, int32_t high) noexcept
      : zero_point(_mm256_set1_epi16(static_cast<int16_t>(zp))),
        lo(_mm256_set1_epi8(static_cast<char>(low))),
        hi(_mm256_set1_epi8(static_cast<char>(high))),
        // The packs work within 128-bit lanes: double word j of lane l comes from value vector j.
        order(_mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)) {}

  // For vectors of consecutive values.
  __m256i operator()(__m256i v0, __m256i v1, __m256i v2, __m256i v3) const noexcept {
    return _mm256_permutevar8x32_epi32(in_lanes(v0, v1, v2, v3), order);
  }

  // For vectors made by interleaving within 128-bit lanes: lane l of vector j has values 16 * l + 4 * j, ...
  __m256i in_lanes(__m256i v0, __m256i v1, __m256i v2, __m256i v3) const noexcept {
    const __m256i a = _mm256_adds_epi16(_mm256_packs_epi32(v0, v1), zero_point);
    const __m256i b = _mm256_adds_epi16(_mm256_packs_epi32(v2, v3), zero_point);
    return _mm256_min_epu8(_mm256_max_epu8(_mm256_packus_epi16(a, b), lo), hi);
  }
};

}  // namespace
}  // namespace qfx
