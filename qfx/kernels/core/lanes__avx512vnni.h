#pragma once
// For the files of that level only.
#include <immintrin.h>

#include "core/lanes.h"

namespace qfx {
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

}  // namespace
}  // namespace qfx
