#pragma once
// For the files of that level only.
#include <arm_neon.h>

#include "core/lanes.h"

namespace qfx {
namespace {

typedef float Floats __attribute__((vector_size(16)));
typedef double Doubles __attribute__((vector_size(16)));

template <>
inline Floats root(Floats v) noexcept {
  return (Floats)vsqrtq_f32((float32x4_t)v);
}
template <>
inline Doubles widened<Doubles>(const float* from) noexcept {
  return (Doubles)vcvt_f64_f32(vld1_f32(from));
}
template <>
inline void store_narrowed(float* to, Doubles v) noexcept {
  vst1_f32(to, vcvt_f32_f64((float64x2_t)v));
}

}  // namespace
}  // namespace qfx
