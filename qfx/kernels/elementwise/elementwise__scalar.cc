#include <cmath>

#include "core/requant.h"
#include "elementwise/kernels.h"

namespace qfx::elementwise {
namespace {

template <BinaryOp op>
float combined(int32_t a, int32_t b, const BinaryQuant& q) noexcept {
  if constexpr (op == BinaryOp::mul) return static_cast<float>(a * b) * q.a_multiplier;
  const float x = static_cast<float>(a) * q.a_multiplier;
  const float y = static_cast<float>(b) * q.b_multiplier;
  return op == BinaryOp::add ? x + y : x - y;
}

template <BinaryOp op>
void binary(const uint8_t* a, const uint8_t* b, uint8_t* y, int64_t n, const BinaryQuant& q) noexcept {
  for (int64_t i = 0; i < n; ++i)
    y[i] = requantize(combined<op>(a[i] - q.a_zero_point, b[i] - q.b_zero_point, q), q.zero_point, q.lo, q.hi);
}

uint8_t quantized(float x, const QuantizeParams& p) noexcept {
  const double q = std::nearbyint(static_cast<double>(x) / static_cast<double>(p.scale)) + p.zero_point;
  if (std::isnan(q)) return static_cast<uint8_t>(p.zero_point);
  return static_cast<uint8_t>(q < 0.0 ? 0.0 : (q > 255.0 ? 255.0 : q));
}

}  // namespace

void binary_u8__scalar(const uint8_t* a, const uint8_t* b, uint8_t* y, int64_t n, const BinaryQuant& quant) noexcept {
  switch (quant.op) {
    case BinaryOp::add:
      return binary<BinaryOp::add>(a, b, y, n, quant);
    case BinaryOp::sub:
      return binary<BinaryOp::sub>(a, b, y, n, quant);
    case BinaryOp::mul:
      return binary<BinaryOp::mul>(a, b, y, n, quant);
  }
}

void lookup_u8__scalar(const uint8_t* x, uint8_t* y, int64_t n, const uint8_t* table) noexcept {
  for (int64_t i = 0; i < n; ++i) y[i] = table[x[i]];
}

void lookup_u8_f32__scalar(const uint8_t* x, float* y, int64_t n, const float* table) noexcept {
  for (int64_t i = 0; i < n; ++i) y[i] = table[x[i]];
}

void quantize_f32_u8__scalar(const float* x, uint8_t* y, int64_t n, const QuantizeParams& params) noexcept {
  for (int64_t i = 0; i < n; ++i) y[i] = quantized(x[i], params);
}

void quantize_planar3_f32_u8__scalar(const float* x, int64_t plane, uint8_t* y, int64_t n,
                                     const QuantizeParams& params) noexcept {
  for (int64_t i = 0; i < n; ++i)
    for (int64_t c = 0; c < 3; ++c) y[3 * i + c] = quantized(x[c * plane + i], params);
}

void dequantize_u8_f32__scalar(const uint8_t* x, float* y, int64_t n, float scale, int32_t zero_point) noexcept {
  for (int64_t i = 0; i < n; ++i) y[i] = static_cast<float>(x[i] - zero_point) * scale;
}

}  // namespace qfx::elementwise
