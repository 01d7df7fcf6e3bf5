#pragma once
#include <cstdint>
#include <type_traits>

#include "core/kernel.h"

namespace qfx::float_ops {

// Every level computes the same bits: a row's elements are summed in lanes (element i in lane i % lanes), kGroup
// elements at a time, whose sums are added in order, lane by lane; then the second half of the lanes is added to the
// first until one is left. Each float32 operation is rounded on its own.
constexpr int64_t kGroup = 1024;

// One row to zero mean and unit variance, with a mean in two parts, of which the second is what the first is off by:
//   origin = sum(x) / n,  rest = sum(x - origin) / n,  variance = max(0, sum((x - origin)^2) / n - rest^2)
//   y = ((x - origin) - rest) * (1 / sqrt(variance + eps)) * weight + bias
constexpr int64_t kNormLanes = 32;
struct NormalizeRow {
  using Fn = void(const float* x, float* y, int64_t n, float eps, const float* weight, const float* bias) noexcept;
};
// One row to unit mean square: y = x * (1 / sqrt(sum(x^2) / n + eps)) * weight. There is no bias.
struct RmsRow {
  using Fn = void(const float* x, float* y, int64_t n, float eps, const float* weight, const float* bias) noexcept;
};

// One row of softmax in float32, or its logarithm:
//   e = exp_below(x - max(x)),  y = e * (1 / sum(e))  or  (x - max(x)) - log_of(sum(e))
// Sums run in kFloatLanes lanes, of kGroup elements at a time; the groups are added in order, lane by lane, and then
// the lanes as (0 + 8), (1 + 9) .., and so on by halves.
constexpr int64_t kSoftmaxLanes = 16;
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
