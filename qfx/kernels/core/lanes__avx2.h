#pragma once
// For the files of that level only.
#include <immintrin.h>

#include "core/lanes.h"

namespace qfx {
namespace {

typedef float Floats __attribute__((vector_size(32)));

inline __m256i first_lanes(int64_t n) noexcept {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

template <>
inline Floats load_part(const float* from, int64_t n, Floats rest) noexcept {
  const __m256i first = first_lanes(n);
  return _mm256_blendv_ps(rest, _mm256_maskload_ps(from, first), _mm256_castsi256_ps(first));
}
template <>
inline void store_part(float* to, int64_t n, Floats v) noexcept {
  _mm256_maskstore_ps(to, first_lanes(n), v);
}
template <>
inline Floats load_quads(const float* from, int64_t step) noexcept {
  return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(from)), _mm_loadu_ps(from + step), 1);
}
template <>
inline void store_quads(float* to, int64_t step, Floats v) noexcept {
  _mm_storeu_ps(to, _mm256_castps256_ps128(v));
  _mm_storeu_ps(to + step, _mm256_extractf128_ps(v, 1));
}
template <>
inline Floats least(Floats a, Floats b) noexcept {
  return _mm256_min_ps(a, b);
}
template <>
inline Floats most(Floats a, Floats b) noexcept {
  return _mm256_max_ps(a, b);
}
template <>
inline Floats root(Floats v) noexcept {
  return _mm256_sqrt_ps(v);
}

}  // namespace
}  // namespace qfx
