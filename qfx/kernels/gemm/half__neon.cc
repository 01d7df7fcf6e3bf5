#include <arm_neon.h>

#include "gemm/half.h"

namespace qfx::gemm {
namespace {

template <int R>
void half_tile(const HalfPanel& p, const float* x, int64_t x_row, float* y, int64_t y_row, int v) noexcept {
  float32x4_t acc[R][4];
  for (int r = 0; r < R; ++r)
    for (float32x4_t& s : acc[r]) s = vdupq_n_f32(0.0f);
  for (int64_t i = 0; i < p.steps; ++i) {
    const auto* at = reinterpret_cast<const uint16_t*>(p.weight) + (i * p.vectors + v) * kHalfLanes;
    for (int q = 0; q < 4; ++q) {
      const float32x4_t w = vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(at + 4 * q)));
      for (int r = 0; r < R; ++r) acc[r][q] = vaddq_f32(acc[r][q], vmulq_n_f32(w, x[r * x_row + i]));
    }
  }
  for (int r = 0; r < R; ++r)
    for (int q = 0; q < 4; ++q) {
      const int64_t o = v * kHalfLanes + 4 * q;
      vst1q_f32(y + r * y_row + o, vaddq_f32(acc[r][q], vld1q_f32(p.bias + o)));
    }
}

}  // namespace

void gemm_f32f16_2x16c1__neon(const HalfPanel& panel, const float* x, int64_t x_row, int64_t rows, float* y,
                              int64_t y_row) noexcept {
  for (int v = 0; v < panel.vectors; ++v) {
    int64_t r = 0;
    for (; r + 2 <= rows; r += 2) half_tile<2>(panel, x + r * x_row, x_row, y + r * y_row, y_row, v);
    if (r < rows) half_tile<1>(panel, x + r * x_row, x_row, y + r * y_row, y_row, v);
  }
}

}  // namespace qfx::gemm
