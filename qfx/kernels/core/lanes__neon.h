#pragma once
// For the files of that level only.
#include <arm_neon.h>

#include "core/lanes.h"

namespace qfx {
namespace {

typedef float Floats __attribute__((vector_size(16)));

template <>
inline Floats root(Floats v) noexcept {
  return (Floats)vsqrtq_f32((float32x4_t)v);
}

}  // namespace
}  // namespace qfx
