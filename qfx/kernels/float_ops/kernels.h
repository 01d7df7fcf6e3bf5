#pragma once
#include <cstdint>
#include <type_traits>

#include "core/kernel.h"

namespace qfx::float_ops {

// One row to zero mean and unit variance in float64, then y = float32(normalized * weight + bias). Every level
// computes the same bits: sums run in kLanes partial sums (element i in lane i % kLanes), which are added as
// ((0 + 1) + (2 + 3)) + ((4 + 5) + (6 + 7)); each operation is rounded on its own.
constexpr int64_t kLanes = 8;
struct NormalizeRow {
  using Fn = void(const float* x, float* y, int64_t n, double eps, const double* weight, const double* bias) noexcept;
};

#define QFX_KERNEL_LIST "float_ops/kernels.inc"
#include "core/family.h"

}  // namespace qfx::float_ops
