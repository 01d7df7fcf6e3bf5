#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "core/isa.h"
#include "core/work.h"
#include "gemm/quantized_rows.h"
#include "gemm/tile.h"

namespace qfx {

// A linear layer on floats, with packed weights: f32 [rows][features] to [rows][outputs].
class PackedLinear {
 public:
  virtual ~PackedLinear() = default;
  // The packed weights must outlive the Work.
  virtual std::unique_ptr<Work> plan(int64_t rows) const = 0;
  virtual size_t packed_bytes() const noexcept = 0;

  // How the rows of x may come already quantized; nothing for a layer that does not quantize each by itself.
  virtual std::optional<QuantizedRows> quantized_rows() const { return std::nullopt; }
  // The same result from such rows, in place of x.
  virtual std::unique_ptr<Work> plan_quantized(int64_t) const { return nullptr; }
};

// y = x W^T + bias with float16 or bfloat16 weights [outputs][features], summed in float32 in the order of the
// features; bias: [outputs] or empty. Copies them. Throws std::invalid_argument for sizes that do not fit together.
std::unique_ptr<PackedLinear> pack_linear_half(int64_t outputs, int64_t features, std::span<const uint16_t> weights,
                                               std::span<const float> bias, Isa isa, bool brain = false);

// Weights [outputs][features] of 8 or 4 bits, with a scale for each group of features of a row.
struct GroupedLinear {
  int64_t outputs = 0, features = 0;
  int64_t group = 0;                      // features; divides them
  int bits = 8;                           // or 4
  std::span<const std::byte> weights;     // signed codes; of 4 bits two a byte, the first in the low half
  std::span<const float> scale;           // [outputs][groups], or
  std::span<const uint16_t> half_scale;   // the same in float16
  std::span<const std::byte> zero_point;  // [outputs][groups], stored as the weights are; or empty: all 0
  std::span<const float> bias;            // [outputs], or empty
};

// y = x W^T + bias with weights w = float(code - zero point) * scale in float32, summed in float32 in the order of the
// features. Copies what it is given; weights are unpacked in registers. Throws std::invalid_argument for sizes that do
// not fit together.
std::unique_ptr<PackedLinear> pack_linear_grouped(const GroupedLinear& layer, Isa isa);

// int8 weights [outputs][features].
struct DynamicLinear {
  int64_t outputs = 0, features = 0;
  std::span<const int8_t> weights;
  std::span<const float> scale;         // [outputs]
  std::span<const int32_t> zero_point;  // [outputs], or empty: all 0
  std::span<const float> bias;          // [outputs], or empty
  bool per_row = false;                 // each row of x has a scale of its own; else one holds for all of x
  bool residual = false;                // f32 [rows][outputs], a second operand, is added
  float lo = -__builtin_inff();
  float hi = __builtin_inff();
};

// Dynamic quantization of a linear layer's input: over all of x, or over each row, min and max with zero included give
// scale and zero point (of codes up to 255) in float32 as qfx.ops.arithmetic.affine_qparams defines; then exact s8 x u8
// products and y = float(acc) * (x_scale * weight_scale[o]) + bias[o] (+ residual), acc over weights less their zero
// points, each float operation rounded on its own, and y held in [lo, hi], in which NaN stays NaN. What has an infinity
// or NaN in it, x or the row, gives NaN everywhere. Copies the constants. Throws std::invalid_argument for sizes that
// do not fit together.
std::unique_ptr<PackedLinear> pack_linear_dynamic(const DynamicLinear& layer, Isa isa);

// A linear layer of such weights on rows that are quantized by groups.
struct DynamicGroupedLinear {
  GroupedLinear weights;  // whose groups are whole numbers of those of x, or whole rows
  int64_t x_group = 32;   // neighbours in a row of x that share a scale; the last ones may be fewer
  bool residual = false;  // f32 [rows][outputs], a second operand, is added
  float lo = -__builtin_inff();
  float hi = __builtin_inff();
};

// Each group of a row of x has scale = max |x| / 127 in float32 (1 where that is 0) and codes = rint(x / scale) in
// -128..127. Of a group g, with its exact sum over weights less their zero points,
//   p[g] = float(sum) * (x_scale * weight_scale[o]),  y = ((p[0] + p[1]) + ...) + bias[o] (+ residual)
// each float operation rounded on its own, and y held in [lo, hi], in which NaN stays NaN. NaN or an infinity in a row
// gives NaN in that of y. Copies the constants; weights of 4 bits become bytes. Throws std::invalid_argument for sizes
// that do not fit together.
std::unique_ptr<PackedLinear> pack_linear_dynamic_grouped(const DynamicGroupedLinear& layer, Isa isa);

namespace gemm {

// The same with that kernel, and narrower ones of `kernels`, as pack_linear_dynamic_gemm.
std::unique_ptr<PackedLinear> pack_linear_dynamic_grouped_gemm(const TileKernel& kernel,
                                                               const DynamicGroupedLinear& layer, Isa isa,
                                                               std::span<const TileKernel> kernels = gemm::kernels());

// The simple loops that define the result, for any number of features.
std::unique_ptr<PackedLinear> pack_linear_dynamic_scalar(const DynamicLinear& layer);

// With that kernel, and narrower ones of `kernels`, which must all outlive the result; floats are read on level `isa`.
std::unique_ptr<PackedLinear> pack_linear_dynamic_gemm(const TileKernel& kernel, const DynamicLinear& layer, Isa isa,
                                                       std::span<const TileKernel> kernels = gemm::kernels());

}  // namespace gemm
}  // namespace qfx
