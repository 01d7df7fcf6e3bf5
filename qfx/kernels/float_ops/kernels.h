#pragma once
#include <cstdint>
#include <type_traits>

#include "core/kernel.h"

namespace qfx::float_ops {

// Every level computes the same bits: a row's elements are summed in lanes (element i in lane i % lanes), the second
// half of the lanes is added to the first until one is left, and each operation is rounded on its own.

// One row to zero mean and unit variance in float64, then y = float32(normalized * weight + bias).
constexpr int64_t kDoubleLanes = 32;
struct NormalizeRow {
  using Fn = void(const float* x, float* y, int64_t n, double eps, const double* weight, const double* bias) noexcept;
};

// One row of softmax in float32, or its logarithm:
//   e = exp_below(x - max(x)),  y = e * (1 / sum(e))  or  (x - max(x)) - log_of(sum(e))
// Sums run in kFloatLanes lanes, of kGroup elements at a time; the groups are added in order, lane by lane, and then
// the lanes as (0 + 8), (1 + 9) .., and so on by halves.
constexpr int64_t kFloatLanes = 16, kGroup = 1024;
struct SoftmaxRow {
  using Fn = void(const float* x, float* y, int64_t n, bool log) noexcept;
};
// The same of `columns` columns whose elements are `stride` apart.
struct SoftmaxColumns {
  using Fn = void(const float* x, float* y, int64_t n, int64_t stride, int64_t columns, bool log) noexcept;
};

// y = function(x) in float32, as pointwise.inc and pointwise.h define it; args: two numbers.
enum class PointwiseFunction : int {
#define QFX_POINTWISE(name, arguments, value) name,
#include "float_ops/pointwise.inc"
#undef QFX_POINTWISE
};
struct Pointwise {
  using Fn = void(PointwiseFunction function, const float* args, const float* x, float* y, int64_t n) noexcept;
};

#define QFX_KERNEL_LIST "float_ops/kernels.inc"
#include "core/family.h"

}  // namespace qfx::float_ops
