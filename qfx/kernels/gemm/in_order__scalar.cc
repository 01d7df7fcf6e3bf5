#include <bit>
#include <cstring>

#include "core/half.h"
#include "gemm/in_order.h"

namespace qfx::gemm {
namespace {

uint16_t bits_at(const std::byte* from, int64_t i) {
  uint16_t bits;
  std::memcpy(&bits, from + i * 2, sizeof bits);
  return bits;
}

float scale_at(const InOrderPanel& p, int64_t i) {
  if (p.half_scale) return float_of_half(bits_at(p.scale, i));
  float scale;
  std::memcpy(&scale, p.scale + i * 4, sizeof scale);
  return scale;
}

template <Stored S>
float weight_at(const InOrderPanel& p, int64_t step, int64_t o) {
  const int64_t columns = p.vectors * kHalfLanes, i = step * columns + o;
  if constexpr (S == Stored::f16) return float_of_half(bits_at(p.weight, i));
  if constexpr (S == Stored::bf16) return std::bit_cast<float>(static_cast<uint32_t>(bits_at(p.weight, i)) << 16);
  const int64_t g = step / p.group * columns + o;
  const int zero = p.zero_point == nullptr ? p.origin : p.zero_point[g];
  int code = 0;
  if constexpr (S == Stored::s8) code = static_cast<int8_t>(p.weight[i]);
  if constexpr (S == Stored::s4) {
    code = std::to_integer<int>(p.weight[step / 2 * columns + o]) >> (step % 2 * 4) & 15;
  }
  return static_cast<float>(code - zero) * scale_at(p, g);
}

template <Stored S>
void in_order(const InOrderPanel& panel, const float* x, int64_t x_row, int64_t rows, float* y,
              int64_t y_row) noexcept {
  const int64_t columns = panel.vectors * kHalfLanes;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t o = 0; o < columns; ++o) {
      float sum = 0.0f;
      for (int64_t i = 0; i < panel.steps; ++i) sum += x[r * x_row + i] * weight_at<S>(panel, i, o);
      y[r * y_row + o] = sum + panel.bias[o];
    }
}

}  // namespace

QFX_DEFINE_IN_ORDER(gemm_f32f16__scalar, f16)
QFX_DEFINE_IN_ORDER(gemm_f32bf16__scalar, bf16)
QFX_DEFINE_IN_ORDER(gemm_f32s8__scalar, s8)
QFX_DEFINE_IN_ORDER(gemm_f32s4__scalar, s4)

}  // namespace qfx::gemm
