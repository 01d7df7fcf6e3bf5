#pragma once
#include <cstdint>
#include <limits>
#include <type_traits>

#include "core/kernel.h"

namespace qfx::fake_quant {

// y = clamp(rint(x / scale), lowest, highest) * scale, where lowest and highest are the ends of the integer range less
// the zero point. The vector kernels take x * reciprocal where elementwise/kernels.h says why that is exact.
struct Grid {
  float scale = 1.0f;
  float reciprocal = 1.0f;
  double reciprocal64 = 1.0;
  float lowest = 0.0f;
  float highest = 0.0f;

  static Grid of(float scale, int32_t zero_point, int32_t qmin, int32_t qmax) noexcept;
  // Whether the vector kernels' arithmetic is exact for it.
  bool vectorizable() const noexcept;
};

// A channel each, padded to a multiple of kLanes.
struct Grids {
  float* scale = nullptr;
  float* reciprocal = nullptr;
  double* reciprocal64 = nullptr;
  float* lowest = nullptr;
  float* highest = nullptr;
};

// An activation in front: x is clamped to lo..hi first, and passes its gradient strictly between.
struct Gate {
  float lo = -std::numeric_limits<float>::infinity();
  float hi = std::numeric_limits<float>::infinity();
  bool open() const noexcept { return lo == Gate{}.lo && hi == Gate{}.hi; }
};

constexpr int64_t kLanes = 16;  // that sums are taken in, on every level

// Extends *low and *high by n values; returns whether all are numbers.
struct Extremes {
  using Fn = bool(const float* x, int64_t n, float* low, float* high) noexcept;
};
// Of each column of dense rows.
struct ColumnExtremes {
  using Fn = bool(const float* x, int64_t rows, int64_t columns, float* low, float* high) noexcept;
};

// Bit i of `passed` (may be null) says whether x[i] was within the range. Returns whether all n were. y may be x.
// NaN stays NaN and does not pass. `stream`: past the caches, where y is aligned.
struct Quantize {
  using Fn = bool(const float* x, float* y, uint8_t* passed, int64_t n, const Grid& grid, const Gate& gate,
                  bool stream) noexcept;
};
// One row, value i on grid i.
struct ColumnQuantize {
  using Fn = bool(const float* x, float* y, uint8_t* passed, int64_t n, const Grids& grids, const Gate& gate) noexcept;
};

// y[i] = bit i of `passed` ? g[i] : 0, for any n values of 4 or 2 bytes. y may be g.
struct Mask32 {
  using Fn = void(const uint32_t* g, const uint8_t* passed, uint32_t* y, int64_t n, bool stream) noexcept;
};
struct Mask16 {
  using Fn = void(const uint16_t* g, const uint8_t* passed, uint16_t* y, int64_t n) noexcept;
};

// The gradient of x, and what those of scale and zero point are made of, added to sums [3][kLanes], where value i
// belongs to lane i % kLanes: g * (rint(x / scale) - x / scale) of what passed, g of what was below, g of what was
// above.
struct Learn {
  using Fn = void(const float* x, const float* g, float* gx, int64_t n, const Grid& grid, const Gate& gate,
                  double* sums) noexcept;
};
// One row, value i on grid i; sums [3][stride].
struct ColumnLearn {
  using Fn = void(const float* x, const float* g, float* gx, int64_t n, const Grids& grids, double* sums,
                  int64_t stride) noexcept;
};

// bfloat16 and IEEE half to float32, exactly, and back, rounded to nearest even.
struct WidenBrain {
  using Fn = void(const uint16_t* x, float* y, int64_t n) noexcept;
};
struct WidenHalf {
  using Fn = void(const uint16_t* x, float* y, int64_t n) noexcept;
};
struct NarrowBrain {
  using Fn = void(const float* x, uint16_t* y, int64_t n) noexcept;
};
struct NarrowHalf {
  using Fn = void(const float* x, uint16_t* y, int64_t n) noexcept;
};

#define QFX_KERNEL_LIST "fake_quant/kernels.inc"
#include "core/family.h"

}  // namespace qfx::fake_quant
