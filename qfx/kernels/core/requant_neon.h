#pragma once
// For the files of the ARM levels only: everything has internal linkage, so no baseline code can end up with it.
#include <arm_neon.h>

#include <cstdint>

namespace qfx {
namespace {

// requantize() for sixteen values in order. Conversion rounds half to even and saturates, as does each
// narrowing: what is beyond the clamp of requantize() stays beyond s16. v is not NaN.
struct Requantize {
  int16x8_t zero_point;
  uint8x16_t lo, hi;

  Requantize(int32_t zp, int32_t low, int32_t high) noexcept
      : zero_point(vdupq_n_s16(static_cast<int16_t>(zp))),
        lo(vdupq_n_u8(static_cast<uint8_t>(low))),
        hi(vdupq_n_u8(static_cast<uint8_t>(high))) {}

  uint8x16_t operator()(float32x4_t v0, float32x4_t v1, float32x4_t v2, float32x4_t v3) const noexcept {
    return vminq_u8(vmaxq_u8(vcombine_u8(narrowed(v0, v1), narrowed(v2, v3)), lo), hi);
  }

 private:
  uint8x8_t narrowed(float32x4_t a, float32x4_t b) const noexcept {
    const int16x8_t words = vcombine_s16(vqmovn_s32(vcvtnq_s32_f32(a)), vqmovn_s32(vcvtnq_s32_f32(b)));
    return vqmovun_s16(vqaddq_s16(words, zero_point));
  }
};

}  // namespace
}  // namespace qfx
