#pragma once
#include <cstdint>
#include <type_traits>

#include "core/kernel.h"

namespace qfx::rotary {

// One row of rotary embedding: pair i of 2 * pairs numbers is turned by an angle, each operation rounded on its own:
//   first' = first * cos - second * sin,  second' = second * cos + first * sin
// cos and sin have an entry for each number, as far apart as those; or, where `shared`, an entry for each pair.
// Pair i is numbers i and i + pairs. y may be x.
struct Halves {
  using Fn = void(const float* x, const float* cos, const float* sin, float* y, int64_t pairs, bool shared) noexcept;
};
// Pair i is numbers 2 i and 2 i + 1. y may be x.
struct Pairs {
  using Fn = void(const float* x, const float* cos, const float* sin, float* y, int64_t pairs, bool shared) noexcept;
};

#define QFX_KERNEL_LIST "rotary/kernels.inc"
#include "core/family.h"

}  // namespace qfx::rotary
