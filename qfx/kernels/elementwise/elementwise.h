#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/isa.h"
#include "core/work.h"

namespace qfx {

using Dims = std::vector<int64_t>;

enum class BinaryOp : int { add, sub, mul };

// add, sub: v = float(a - a_zero_point) * a_multiplier  (+ or -)  float(b - b_zero_point) * b_multiplier
// mul:      v = float((a - a_zero_point) * (b - b_zero_point)) * a_multiplier
// y = lut[requantize(v, zero_point, lo, hi)]      (lut absent: the identity)
struct BinaryQuant {
  BinaryOp op = BinaryOp::add;
  int32_t a_zero_point = 0, b_zero_point = 0;
  float a_multiplier = 1.0f, b_multiplier = 1.0f;
  int32_t zero_point = 0, lo = 0, hi = 255;
};

// u8 x u8 -> u8 with numpy broadcasting over equal ranks; in = {a, b}, out = {y}.
std::unique_ptr<Work> plan_binary_u8(const BinaryQuant& quant, const Dims& a, const Dims& b,
                                     std::span<const uint8_t> lut, Isa isa);

// y = table[x]; in = {x}, out = {y}; n elements. The f32 form maps codes to float.
std::unique_ptr<Work> plan_lookup_u8(int64_t n, std::span<const uint8_t> table, Isa isa);
std::unique_ptr<Work> plan_lookup_f32(int64_t n, std::span<const float> table, Isa isa);

// y = clamp(rint(double(x) / double(scale)) + zero_point, 0, 255), NaN -> zero_point.
// x is f32 with arbitrary element strides (`strides`, one per dim of `shape`), y dense in the order
// of `shape`: a layout change (NCHW -> NHWC) is a choice of strides. in = {x}, out = {y}.
std::unique_ptr<Work> plan_quantize(const Dims& shape, const Dims& strides, float scale, int32_t zero_point, Isa isa);

// y = float(x - zero_point) * scale, x dense u8 of physical shape `shape`; y dense in the order of
// `perm` applied to shape: y dim i is x dim perm[i]. in = {x}, out = {y}.
std::unique_ptr<Work> plan_dequantize(const Dims& shape, const std::vector<int>& perm, float scale, int32_t zero_point,
                                      Isa isa);

}  // namespace qfx
