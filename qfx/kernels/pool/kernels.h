#pragma once
#include <cstdint>
#include <type_traits>

#include "core/kernel.h"

namespace qfx::pool {

// The taps of one output pixel: a box of pixels of x; strides in elements.
struct Window {
  int64_t taps[3];
  int64_t stride[3];
};

// acc = sum of n_taps codes - offset, v = float(acc) * multiplier, requantized to 0..255.
struct Average {
  int64_t offset;  // n_taps * x_zero_point
  float multiplier;
  int32_t zero_point;
};

// More taps than this can overflow the s32 sums of the vector kernels; then the scalar one, with s64, runs.
constexpr int64_t kTapsMax = int64_t{1} << 23;

// y[c] = max over the window, 0 for an empty one.
struct MaxWindow {
  using Fn = void(const uint8_t* x, const Window& window, int64_t channels, uint8_t* y) noexcept;
};
struct AverageWindow {
  using Fn = void(const uint8_t* x, const Window& window, int64_t channels, const Average& average,
                  uint8_t* y) noexcept;
};
// The sum of n dense codes.
struct Sum {
  using Fn = int64_t(const uint8_t* x, int64_t n) noexcept;
};

// Corners and weights of one output pixel of a linear interpolation: 1, 2 or 4 rows (pairs along the last
// axis) and one weight an axis. See interpolate.cc for the formula.
struct Corners {
  const uint8_t* at[2][2][2];
  double weight[3];
};
// The channels of one output pixel; every product and sum in float64.
struct Linear {
  using Fn = void(const Corners& corners, int64_t channels, int32_t zero_point, uint8_t* y) noexcept;
};
// The same in float32, for weights that are multiples of 1/32: then every intermediate value is exact.
struct LinearExact {
  using Fn = void(const Corners& corners, int64_t channels, int32_t zero_point, uint8_t* y) noexcept;
};

#define QFX_KERNEL_LIST "pool/kernels.inc"
#include "core/family.h"

}  // namespace qfx::pool
