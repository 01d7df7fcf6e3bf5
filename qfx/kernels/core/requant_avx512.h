#pragma once
// For __avx512vnni.cc files only: everything has internal linkage, so no baseline code can end up with it.
#if defined(__GNUC__) && !defined(__clang__)
// gcc 12's own intrinsics start from "undefined" vectors and warn about themselves (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

#include <cstdint>

namespace qfx {
namespace {

// The first n (0..64) bytes.
inline __mmask64 first_bytes(int64_t n) noexcept {
  return n >= 64 ? ~__mmask64{0} : (__mmask64{1} << n) - 1;
}

// rint(v) of requantize(), as s32: what is beyond its clamp only has to stay beyond s16. v is not NaN.
inline __m512i rounded(__m512 v) noexcept {
  return _mm512_cvtps_epi32(_mm512_min_ps(v, _mm512_set1_ps(65536.0f)));
}

// The rest of requantize(), for 64 values in order.
struct Requantize64 {
  __m512i zero_point, lo, hi, order;

  Requantize64(int32_t zp, int32_t low, int32_t high) noexcept
      : zero_point(_mm512_set1_epi16(static_cast<int16_t>(zp))),
        lo(_mm512_set1_epi8(static_cast<char>(low))),
        hi(_mm512_set1_epi8(static_cast<char>(high))),
        // The packs work within 128-bit lanes: double word j of lane l comes from value vector j.
        order(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15)) {}

  // For vectors of consecutive values.
  __m512i operator()(__m512i v0, __m512i v1, __m512i v2, __m512i v3) const noexcept {
    return _mm512_permutexvar_epi32(order, in_lanes(v0, v1, v2, v3));
  }

  // For vectors made by interleaving within 128-bit lanes: lane l of vector j has values 16 * l + 4 * j, ...
  __m512i in_lanes(__m512i v0, __m512i v1, __m512i v2, __m512i v3) const noexcept {
    const __m512i a = _mm512_adds_epi16(_mm512_packs_epi32(v0, v1), zero_point);
    const __m512i b = _mm512_adds_epi16(_mm512_packs_epi32(v2, v3), zero_point);
    return _mm512_min_epu8(_mm512_max_epu8(_mm512_packus_epi16(a, b), lo), hi);
  }
};

}  // namespace
}  // namespace qfx
