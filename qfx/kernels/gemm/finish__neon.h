#pragma once
// Epilogues in NEON registers, for the files of the ARM levels only. Everything has internal linkage, so that no
// instruction of a higher level reaches another object through a merged inline function.
#include <arm_neon.h>

#include <cstdint>
#include <cstring>

#include "gemm/epilogue.h"

namespace qfx::gemm {
namespace {

// Eight neighbouring accumulators of one row.
struct Eight {
  int32x4_t low, high;
};

inline Eight load_eight(const int32_t* from) noexcept {
  return {vld1q_s32(from), vld1q_s32(from + 4)};
}

inline uint8x8_t load_bytes(const uint8_t* from, int64_t n) noexcept {
  if (n >= 8) return vld1_u8(from);
  uint64_t eight = 0;
  std::memcpy(&eight, from, static_cast<size_t>(n));
  return vcreate_u8(eight);
}

inline void store_bytes(uint8_t* to, uint8x8_t bytes, int64_t n) noexcept {
  if (n >= 8) return vst1_u8(to, bytes);
  const uint64_t eight = vget_lane_u64(vreinterpret_u64_u8(bytes), 0);
  std::memcpy(to, &eight, static_cast<size_t>(n));
}

inline void store_floats(float* to, float32x4_t v, int64_t n) noexcept {
  if (n >= 4) return vst1q_f32(to, v);
  float four[4];
  vst1q_f32(four, v);
  if (n > 0) std::memcpy(to, four, static_cast<size_t>(n) * sizeof(float));
}

// The value before rounding, without and with the residual (four codes less their zero point).
inline float32x4_t value(int32x4_t acc, const float* multiplier) noexcept {
  return vmulq_f32(vcvtq_f32_s32(acc), vld1q_f32(multiplier));
}
inline float32x4_t plus_residual(const Epilogue& e, float32x4_t v, int32x4_t residual) noexcept {
  return vaddq_f32(v, vmulq_n_f32(vcvtq_f32_s32(residual), e.residual_multiplier));
}

// Four of `left` lanes.
inline float32x4_t plus_addend(const Output& out, int64_t row, int64_t first, int64_t left, float32x4_t v) noexcept {
  if (out.addend == nullptr || left <= 0) return v;
  float four[4] = {};
  std::memcpy(four, out.addend + row * out.addend_row + first,
              static_cast<size_t>(left < 4 ? left : 4) * sizeof(float));
  return vaddq_f32(v, vld1q_f32(four));
}

// The value of four of `left` lanes of a row that was quantized as it came, `first` onwards.
inline float32x4_t dynamic_value(const Output& out, int64_t row, int64_t first, int64_t left, int32x4_t acc) noexcept {
  const Dynamic& d = out.dynamic;
  acc = vmlsq_n_s32(acc, vld1q_s32(d.column_sum + first), d.zero_point[row]);
  if (d.column_zero_point != nullptr) acc = vmlsq_n_s32(acc, vld1q_s32(d.column_zero_point + first), d.row_sum[row]);
  const float32x4_t m = vmulq_n_f32(vld1q_f32(out.multiplier + first), d.scale[row]);
  const float32x4_t v = vaddq_f32(vmulq_f32(vcvtq_f32_s32(acc), m), vld1q_f32(d.bias + first));
  return plus_addend(out, row, first, left, v);
}

// Comparisons, not fmin and fmax: a zero of either sign stays as std::max and std::min leave it.
inline float32x4_t clamped(const Epilogue& e, float32x4_t v) noexcept {
  const float32x4_t lo = vdupq_n_f32(e.f32_lo), hi = vdupq_n_f32(e.f32_hi);
  v = vbslq_f32(vcltq_f32(v, lo), lo, v);
  return vbslq_f32(vcltq_f32(hi, v), hi, v);
}

// Saturation at each narrowing equals the clamp of requantize().
inline uint8x8_t codes(const Epilogue& e, float32x4_t low, float32x4_t high) noexcept {
  const int16x8_t words = vcombine_s16(vqmovn_s32(vcvtnq_s32_f32(low)), vqmovn_s32(vcvtnq_s32_f32(high)));
  const uint8x8_t bytes = vqmovun_s16(vqaddq_s16(words, vdupq_n_s16(static_cast<int16_t>(e.zero_point))));
  return vmin_u8(vmax_u8(bytes, vdup_n_u8(static_cast<uint8_t>(e.lo))), vdup_n_u8(static_cast<uint8_t>(e.hi)));
}

// Eight lanes of one row, `first` onwards; those past out.columns are not written.
inline void finish_eight(const Output& out, int64_t row, int64_t first, const Eight& acc) noexcept {
  const Epilogue& e = *out.epilogue;
  const int64_t left = out.columns - first;
  if (left <= 0) return;
  if (out.dynamic.scale != nullptr) {
    float* y = static_cast<float*>(out.y) + row * out.y_row + first;
    store_floats(y, clamped(e, dynamic_value(out, row, first, left, acc.low)), left);
    store_floats(y + 4, clamped(e, dynamic_value(out, row, first + 4, left - 4, acc.high)), left - 4);
    return;
  }
  const int32x4_t row_bias = vdupq_n_s32(out.row_bias != nullptr ? out.row_bias[row] : 0);
  float32x4_t low = value(vaddq_s32(acc.low, row_bias), out.multiplier + first);
  float32x4_t high = value(vaddq_s32(acc.high, row_bias), out.multiplier + first + 4);
  if (out.residual != nullptr) {
    const uint8x8_t bytes = load_bytes(out.residual + row * out.residual_row + first, left);
    const int16x8_t r =
        vsubq_s16(vreinterpretq_s16_u16(vmovl_u8(bytes)), vdupq_n_s16(static_cast<int16_t>(e.residual_zero_point)));
    low = plus_residual(e, low, vmovl_s16(vget_low_s16(r)));
    high = plus_residual(e, high, vmovl_high_s16(r));
  }
  if (e.f32_output) {
    float* y = static_cast<float*>(out.y) + row * out.y_row + first;
    store_floats(y, clamped(e, plus_addend(out, row, first, left, low)), left);
    store_floats(y + 4, clamped(e, plus_addend(out, row, first + 4, left - 4, high)), left - 4);
    return;
  }
  uint8_t* y = static_cast<uint8_t*>(out.y) + row * out.y_row + first;
  store_bytes(y, codes(e, low, high), left);
  if (e.lut == nullptr) return;
  for (int64_t i = 0; i < left && i < 8; ++i) y[i] = e.lut[y[i]];
}

}  // namespace
}  // namespace qfx::gemm
