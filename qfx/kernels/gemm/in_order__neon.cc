#include <arm_neon.h>

#include "gemm/in_order.h"
#include "gemm/in_order_chunks.h"

namespace qfx::gemm {
namespace {

constexpr int kQuads = 4;  // of a vector

// The weights of one vector of columns, step by step.
template <Stored S>
class Weights {
 public:
  static constexpr int64_t kBytes = S == Stored::f16 || S == Stored::bf16 ? 2 * kHalfLanes : kHalfLanes;

  Weights(const InOrderPanel& p, int v) noexcept
      : p_(p), at_(p.weight + v * kBytes), stride_(p.vectors * kBytes), v_(v) {}

  void begin_group(int64_t g) noexcept {
    if constexpr (S == Stored::s8 || S == Stored::s4) {
      const int64_t i = (g * p_.vectors + v_) * kHalfLanes;
      if (p_.half_scale) {
        halves(p_.scale + 2 * i, scale_);
      } else {
        for (int q = 0; q < kQuads; ++q) scale_[q] = vld1q_f32(reinterpret_cast<const float*>(p_.scale) + i + 4 * q);
      }
      zero_ = p_.zero_point == nullptr ? vdupq_n_s8(static_cast<int8_t>(p_.origin)) : vld1q_s8(p_.zero_point + i);
    }
  }

  void at(int64_t step, float32x4_t* w) const noexcept {
    if constexpr (S == Stored::f16) halves(at_ + step * stride_, w);
    if constexpr (S == Stored::bf16) {
      const auto* from = reinterpret_cast<const uint16_t*>(at_ + step * stride_);
      for (int q = 0; q < kQuads; ++q) w[q] = vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(from + 4 * q), 16));
    }
    if constexpr (S == Stored::s8) decode(vld1q_s8(reinterpret_cast<const int8_t*>(at_ + step * stride_)), w);
    if constexpr (S == Stored::s4) {
      const uint8x16_t both = vld1q_u8(reinterpret_cast<const uint8_t*>(at_ + step / 2 * stride_));
      const uint8x16_t half = step % 2 == 0 ? vandq_u8(both, vdupq_n_u8(15)) : vshrq_n_u8(both, 4);
      decode(vreinterpretq_s8_u8(half), w);
    }
  }

  void store(int64_t step, float* to) const noexcept {
    float32x4_t w[kQuads];
    at(step, w);
    for (int q = 0; q < kQuads; ++q) vst1q_f32(to + 4 * q, w[q]);
  }

 private:
  static void halves(const std::byte* from, float32x4_t* to) noexcept {
    const auto* at = reinterpret_cast<const uint16_t*>(from);
    for (int q = 0; q < kQuads; ++q) to[q] = vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(at + 4 * q)));
  }
  void decode(int8x16_t code, float32x4_t* w) const noexcept {
    const int16x8_t low = vsubl_s8(vget_low_s8(code), vget_low_s8(zero_)), high = vsubl_high_s8(code, zero_);
    const int32x4_t wide[kQuads] = {vmovl_s16(vget_low_s16(low)), vmovl_high_s16(low), vmovl_s16(vget_low_s16(high)),
                                    vmovl_high_s16(high)};
    for (int q = 0; q < kQuads; ++q) w[q] = vmulq_f32(vcvtq_f32_s32(wide[q]), scale_[q]);
  }

  const InOrderPanel& p_;
  const std::byte* at_;
  int64_t stride_;
  int v_;
  float32x4_t scale_[kQuads];
  int8x16_t zero_;
};

template <Stored S, int R>
void tile(const InOrderPanel& p, const float* x, int64_t x_row, float* y, int64_t y_row, int v) noexcept {
  float32x4_t acc[R][kQuads];
  for (int r = 0; r < R; ++r)
    for (float32x4_t& s : acc[r]) s = vdupq_n_f32(0.0f);
  Weights<S> weights(p, v);
  for (int64_t i = 0; i < p.steps;) {
    weights.begin_group(i / p.group);
    for (const int64_t end = i + p.group; i < end; ++i) {
      float32x4_t w[kQuads];
      weights.at(i, w);
      for (int r = 0; r < R; ++r)
        for (int q = 0; q < kQuads; ++q) acc[r][q] = vaddq_f32(acc[r][q], vmulq_n_f32(w[q], x[r * x_row + i]));
    }
  }
  for (int r = 0; r < R; ++r)
    for (int q = 0; q < kQuads; ++q) {
      const int64_t o = v * kHalfLanes + 4 * q;
      vst1q_f32(y + r * y_row + o, vaddq_f32(acc[r][q], vld1q_f32(p.bias + o)));
    }
}

struct Products {
  template <int R, int V>
  static void add(const float* w, int64_t steps, const float* x, int64_t x_row, float* y, int64_t y_row) noexcept {
    static_assert(V == 1, "more columns leave no registers");
    float32x4_t acc[R][kQuads];
    for (int r = 0; r < R; ++r)
      for (int q = 0; q < kQuads; ++q) acc[r][q] = vld1q_f32(y + r * y_row + 4 * q);
    for (int64_t i = 0; i < steps; ++i, w += kHalfLanes) {
      float32x4_t by[kQuads];
      for (int q = 0; q < kQuads; ++q) by[q] = vld1q_f32(w + 4 * q);
      for (int r = 0; r < R; ++r)
        for (int q = 0; q < kQuads; ++q) acc[r][q] = vaddq_f32(acc[r][q], vmulq_n_f32(by[q], x[r * x_row + i]));
    }
    for (int r = 0; r < R; ++r)
      for (int q = 0; q < kQuads; ++q) vst1q_f32(y + r * y_row + 4 * q, acc[r][q]);
  }
};

template <Stored S>
void in_order(const InOrderPanel& p, const float* x, int64_t x_row, int64_t rows, float* y, int64_t y_row) noexcept {
  for (int v = 0; v < p.vectors; ++v) {
    if (rows >= kManyRows) {
      by_chunks<Weights<S>, Products, 1>(p, v, x, x_row, rows, y, y_row);
      continue;
    }
    int64_t r = 0;
    for (; r + 4 <= rows; r += 4) tile<S, 4>(p, x + r * x_row, x_row, y + r * y_row, y_row, v);
    for (; r + 2 <= rows; r += 2) tile<S, 2>(p, x + r * x_row, x_row, y + r * y_row, y_row, v);
    if (r < rows) tile<S, 1>(p, x + r * x_row, x_row, y + r * y_row, y_row, v);
  }
}

}  // namespace

QFX_DEFINE_IN_ORDER(gemm_f32f16_4x16c1__neon, f16)
QFX_DEFINE_IN_ORDER(gemm_f32bf16_4x16c1__neon, bf16)
QFX_DEFINE_IN_ORDER(gemm_f32s8_4x16c1__neon, s8)
QFX_DEFINE_IN_ORDER(gemm_f32s4_4x16c1__neon, s4)

}  // namespace qfx::gemm
