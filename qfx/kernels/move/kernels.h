#pragma once
#include <cstdint>
#include <type_traits>

#include "core/kernel.h"

namespace qfx::move {

// y[c * y_stride + r] = x[r * x_stride + c] for r < rows, c < columns; strides in elements.
struct TransposeU8 {
  using Fn = void(const uint8_t* x, int64_t x_stride, uint8_t* y, int64_t y_stride, int64_t rows,
                  int64_t columns) noexcept;
};
struct TransposeU32 {
  using Fn = void(const uint32_t* x, int64_t x_stride, uint32_t* y, int64_t y_stride, int64_t rows,
                  int64_t columns) noexcept;
};

#define QFX_KERNEL_LIST "move/kernels.inc"
#include "core/family.h"

}  // namespace qfx::move
