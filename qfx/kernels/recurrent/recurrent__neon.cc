#include <arm_neon.h>

#include "recurrent/cell.h"
#include "recurrent/tile__neon.h"

namespace qfx::recurrent {
namespace {

// Products of a code and a weight fit s16. Two sums for each output.
struct Neon {
  struct Sums {
    int32x4_t part[2] = {vdupq_n_s32(0), vdupq_n_s32(0)};
  };
  static void add(Sums& s, const uint8_t* x, const int8_t* w) noexcept {
    const int8x16_t b = vld1q_s8(w);
    const int16x8_t a = vreinterpretq_s16_u16(vmovl_u8(vreinterpret_u8_u32(vld1_dup_u32(words(x)))));
    s.part[0] = vpadalq_s16(s.part[0], vmulq_s16(a, vmovl_s8(vget_low_s8(b))));
    s.part[1] = vpadalq_s16(s.part[1], vmulq_s16(a, vmovl_s8(vget_high_s8(b))));
  }
  static int32x4_t total(const Sums& s) noexcept { return vpaddq_s32(s.part[0], s.part[1]); }
};

template <int R>
void half_tile(const Panel& p, const float* x, int64_t x_stride, float* y, int64_t y_stride, int v) noexcept {
  float32x4_t acc[R][4];
  for (int r = 0; r < R; ++r)
    for (float32x4_t& s : acc[r]) s = vdupq_n_f32(0.0f);
  for (int64_t i = 0; i < p.steps; ++i) {
    const auto* at = reinterpret_cast<const uint16_t*>(p.weight) + (i * p.vectors + v) * kLanes;
    for (int q = 0; q < 4; ++q) {
      const float32x4_t w = vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(at + 4 * q)));
      for (int r = 0; r < R; ++r) acc[r][q] = vaddq_f32(acc[r][q], vmulq_n_f32(w, x[r * x_stride + i]));
    }
  }
  for (int r = 0; r < R; ++r)
    for (int q = 0; q < 4; ++q) {
      const int64_t o = v * kLanes + 4 * q;
      vst1q_f32(y + r * y_stride + o, vaddq_f32(acc[r][q], vld1q_f32(p.bias + o)));
    }
}

}  // namespace

void product_u8s8_2x16c4__neon(const Panel& panel, const Codes& codes, int64_t rows, float* y,
                               int64_t y_stride) noexcept {
  multiply<Neon>(panel, codes, rows, y, y_stride);
}

void product_f32f16_2x16c1__neon(const Panel& panel, const float* x, int64_t x_stride, int64_t rows, float* y,
                                 int64_t y_stride) noexcept {
  for (int v = 0; v < panel.vectors; ++v) {
    int64_t r = 0;
    for (; r + 2 <= rows; r += 2) half_tile<2>(panel, x + r * x_stride, x_stride, y + r * y_stride, y_stride, v);
    if (r < rows) half_tile<1>(panel, x + r * x_stride, x_stride, y + r * y_stride, y_stride, v);
  }
}

void lstm_f32_x4__neon(const CellBlock& block) noexcept {
  lstm<Floats>(block);
}
void gru_f32_x4__neon(const CellBlock& block) noexcept {
  gru<Floats>(block);
}
void rnn_tanh_f32_x4__neon(const CellBlock& block) noexcept {
  rnn_tanh<Floats>(block);
}
void rnn_relu_f32_x4__neon(const CellBlock& block) noexcept {
  rnn_relu<Floats>(block);
}
void extent_f32_x4__neon(const float* x, int64_t n, float* low, float* high) noexcept {
  extent<Floats>(x, n, low, high);
}

}  // namespace qfx::recurrent
