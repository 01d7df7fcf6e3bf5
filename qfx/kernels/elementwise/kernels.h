#pragma once
#include <cstdint>
#include <type_traits>

#include "core/kernel.h"
#include "elementwise/elementwise.h"

namespace qfx::elementwise {

// x / scale for the vector kernels, which must equal the double division of the scalar one. The quotient is
// taken with float32 reciprocals; where that leaves a tie in doubt it is repeated in double and rounded to a
// multiple of 2^-35. That is exact: two floats' quotient is a tie k + 1/2 or at least 2^-26 away from one, for
// |k| <= 255 and a normal scale, while x * reciprocal64 is off by less than 2^-43.
struct QuantizeParams {
  float scale = 1.0f;
  int32_t zero_point = 0;
  float reciprocal = 1.0f;
  double reciprocal64 = 1.0;

  // scale: positive and finite; zero_point: 0..255.
  static QuantizeParams of(float scale, int32_t zero_point) noexcept;
  // `wanted`, or scalar for a scale whose reciprocal leaves the range of float32.
  Isa isa(Isa wanted) const noexcept;
};
constexpr float kTieDoubt = 0.5f - 0x1p-14f;  // |t - rint(t)| above it: in doubt; |t| <= 255, error < 2^-15
constexpr double kSnap = 1.5 * 0x1p17;        // (t + kSnap) - kSnap is a multiple of 2^-35

// n dense elements of each operand. y may be a or b itself.
struct Binary {
  using Fn = void(const uint8_t* a, const uint8_t* b, uint8_t* y, int64_t n, const BinaryQuant& quant) noexcept;
};
// y may be x itself.
struct Lookup {
  using Fn = void(const uint8_t* x, uint8_t* y, int64_t n, const uint8_t* table) noexcept;
};
struct LookupFloat {
  using Fn = void(const uint8_t* x, float* y, int64_t n, const float* table) noexcept;
};
struct Quantize {
  using Fn = void(const float* x, uint8_t* y, int64_t n, const QuantizeParams& params) noexcept;
};
// Three planes, `plane` elements apart, to n pixels of three bytes.
struct QuantizePlanar3 {
  using Fn = void(const float* x, int64_t plane, uint8_t* y, int64_t n, const QuantizeParams& params) noexcept;
};
struct Dequantize {
  using Fn = void(const uint8_t* x, float* y, int64_t n, float scale, int32_t zero_point) noexcept;
};
// low = min(low, x), high = max(high, x); both NaN, and then for good, where one of x is an infinity or NaN.
struct Extent {
  using Fn = void(const float* x, int64_t n, float* low, float* high) noexcept;
};

#define QFX_KERNEL_LIST "elementwise/kernels.inc"
#include "core/family.h"

}  // namespace qfx::elementwise
