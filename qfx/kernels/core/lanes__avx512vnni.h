#pragma once
// For the files of that level only.
#include <immintrin.h>

#include "core/lanes.h"

namespace qfx {
namespace {

typedef float Floats __attribute__((vector_size(64)));
// gcc 12 warns of what the forms without a mask leave undefined.
constexpr __mmask16 kAll = 0xffff;

inline __mmask16 first_lanes(int64_t n) noexcept {
  return static_cast<__mmask16>((1u << n) - 1u);
}

template <>
inline Floats load_part(const float* from, int64_t n, Floats rest) noexcept {
  return _mm512_mask_loadu_ps(rest, first_lanes(n), from);
}
template <>
inline void store_part(float* to, int64_t n, Floats v) noexcept {
  _mm512_mask_storeu_ps(to, first_lanes(n), v);
}
template <>
inline Floats load_quads(const float* from, int64_t step) noexcept {
  const auto quad = [=](int64_t i) { return _mm_loadu_ps(from + i * step); };
  __m512 v = _mm512_zextps128_ps512(quad(0));
  v = _mm512_mask_broadcast_f32x4(v, 0x00f0, quad(1));
  v = _mm512_mask_broadcast_f32x4(v, 0x0f00, quad(2));
  return _mm512_mask_broadcast_f32x4(v, 0xf000, quad(3));
}
template <>
inline void store_quads(float* to, int64_t step, Floats v) noexcept {
  _mm_storeu_ps(to, _mm512_castps512_ps128(v));
  _mm_storeu_ps(to + step, _mm512_maskz_extractf32x4_ps(0xf, v, 1));
  _mm_storeu_ps(to + 2 * step, _mm512_maskz_extractf32x4_ps(0xf, v, 2));
  _mm_storeu_ps(to + 3 * step, _mm512_maskz_extractf32x4_ps(0xf, v, 3));
}
template <>
inline Floats least(Floats a, Floats b) noexcept {
  return _mm512_maskz_min_ps(kAll, a, b);
}
template <>
inline Floats most(Floats a, Floats b) noexcept {
  return _mm512_maskz_max_ps(kAll, a, b);
}
template <>
inline Floats root(Floats v) noexcept {
  return _mm512_maskz_sqrt_ps(kAll, v);
}

}  // namespace
}  // namespace qfx
