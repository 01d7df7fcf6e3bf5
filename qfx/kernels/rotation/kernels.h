#pragma once
#include <cstdint>
#include <type_traits>

#include "core/kernel.h"

namespace qfx::rotation {

constexpr int64_t kBlocks[] = {16, 32, 64, 128};  // what a block may have

// Each of `blocks` runs of `block` floats times the orthonormal Hadamard matrix of Sylvester's order: stages of sums
// and differences of neighbours 1, 2, 4, ... apart, in that order, then a product with float32(1 / sqrt(block)), each
// operation rounded on its own. y may be x.
struct Rotate {
  using Fn = void(const float* x, float* y, int64_t blocks, int64_t block) noexcept;
};

// The same, and the extent of what it gives: low = min(low, y), high = max(high, y), both NaN where y is not finite, as
// elementwise::Extent has it.
struct RotateExtent {
  using Fn = void(const float* x, float* y, int64_t blocks, int64_t block, float* low, float* high) noexcept;
};

#define QFX_KERNEL_LIST "rotation/kernels.inc"
#include "core/family.h"

}  // namespace qfx::rotation
