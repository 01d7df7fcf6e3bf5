#pragma once
#include <cstdint>
#include <memory>
#include <span>

#include "core/isa.h"
#include "core/work.h"
#include "gemm/epilogue.h"

namespace qfx {

// Convolution over channels-last activations with 0 to 3 spatial dimensions (0: a linear layer).
// Unused leading spatial entries hold kernel 1, stride 1, dilation 1, padding 0.
struct ConvGeometry {
  int64_t groups = 1;
  int64_t c_in = 0;   // all groups together
  int64_t c_out = 0;  // all groups together
  int64_t kernel[3] = {1, 1, 1};
  int64_t stride[3] = {1, 1, 1};
  int64_t dilation[3] = {1, 1, 1};
  int64_t pad_lo[3] = {0, 0, 0};
  int64_t pad_hi[3] = {0, 0, 0};
  bool linear = false;  // rows of features, and often only one of them; decides between kernels, not what they compute
};

// acc[o] = bias[o] + sum (x - x_zero_point) * (w - weight_zero_point[o])        exact, s32
// v      = float(acc) * multiplier[o] (+ float(r - residual_zero_point) * residual_multiplier, or + r where it is f32)
// Each float operation is rounded on its own (no FMA). Padding contributes x == x_zero_point.
struct ConvQuant : gemm::ResultQuant {
  int32_t x_zero_point = 0;
  bool residual = false;      // shaped as the output
  bool f32_residual = false;  // of f32 output only; else u8
  int32_t residual_zero_point = 0;
  float residual_multiplier = 0.0f;
};

struct ConvConstants {
  std::span<const int8_t> weight;              // [c_out][k0][k1][k2][c_in / groups]
  std::span<const int32_t> weight_zero_point;  // [c_out], or empty: all zero
  std::span<const int32_t> bias;               // [c_out]
  std::span<const float> multiplier;           // [c_out]
  std::span<const uint8_t> lut;                // 256 entries, or empty
};

struct ConvShape {
  int64_t n = 0;               // images (linear: rows)
  int64_t in[3] = {1, 1, 1};   // spatial
  int64_t out[3] = {1, 1, 1};  // spatial
  int64_t row_pad_lo = -1;     // padding of dim 1 where it is not the geometry's, as in a part of an image's rows
  int64_t row_pad_hi = -1;     // likewise
  int64_t x_pixel_stride = 0;  // elements between neighbouring pixels of x, >= c_in
  int64_t y_pixel_stride = 0;  // >= c_out; the residual is dense (c_out)
};

// Weights packed for one kernel, chosen for this geometry and ISA. Independent of the input's shape.
class PackedConv {
 public:
  virtual ~PackedConv() = default;
  // Work::run takes in = {x, residual?}, out = {y}. The PackedConv must outlive the Work.
  // x may be read up to 64 bytes past its last element (the caller's buffers have that slack);
  // y is never written past its last element.
  virtual std::unique_ptr<Work> plan(const ConvShape& shape) const = 0;
  virtual size_t packed_bytes() const noexcept = 0;
};

// Copies what it needs from `constants`. Throws std::invalid_argument for inconsistent sizes or a
// reduction so long that s32 could wrap.
std::unique_ptr<PackedConv> pack_conv(const ConvGeometry& geometry, const ConvQuant& quant,
                                      const ConvConstants& constants, Isa isa);

}  // namespace qfx
