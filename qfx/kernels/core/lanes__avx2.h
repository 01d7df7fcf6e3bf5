#pragma once
// For the files of that level only.
#include <immintrin.h>

#include "core/lanes.h"

namespace qfx {
namespace {

typedef float Floats __attribute__((vector_size(32)));

template <>
inline Floats least(Floats a, Floats b) noexcept {
  return _mm256_min_ps(a, b);
}
template <>
inline Floats most(Floats a, Floats b) noexcept {
  return _mm256_max_ps(a, b);
}

}  // namespace
}  // namespace qfx
