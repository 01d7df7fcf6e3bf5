#include <arm_neon.h>

#include "attention/tile.h"
#include "core/lanes__neon.h"

namespace qfx::attention {
namespace {

struct Traits {
  using Floats = qfx::Floats;
  using Codes = int8x16_t;
  using Code = int8_t;
  static constexpr int64_t kGroup = 4;
  static constexpr int32_t kQueryShift = 0, kWeightShift = -128;
  static constexpr bool kOverlaps = false;

  static Codes pack(const Ints<Floats> (&v)[4]) noexcept { return reinterpret_cast<Codes>(low_bytes<Floats>(v)); }
  static Codes shifted(Codes x) noexcept { return veorq_s8(x, vdupq_n_s8(-128)); }
  static void start(const Code* columns, int64_t steps, int32_t* to) noexcept {
    const int8x16_t shift = vdupq_n_s8(-128);
    int32x4_t low = vdupq_n_s32(0), high = low;
    for (int64_t s = 0; s < steps; ++s, columns += kColumns * kGroup) {
      low = vdotq_s32(low, shift, vld1q_s8(columns));
      high = vdotq_s32(high, shift, vld1q_s8(columns + 16));
    }
    vst1q_s32(to, vnegq_s32(low));
    vst1q_s32(to + 4, vnegq_s32(high));
  }

  static void dot_four(Ints<Floats>* acc, Codes x, int8x16_t columns) noexcept {
    const auto add = [&](Ints<Floats>& to, int32x4_t sum) { to = reinterpret_cast<Ints<Floats>>(sum); };
    add(acc[0], vdotq_laneq_s32(reinterpret_cast<int32x4_t>(acc[0]), x, columns, 0));
    add(acc[1], vdotq_laneq_s32(reinterpret_cast<int32x4_t>(acc[1]), x, columns, 1));
    add(acc[2], vdotq_laneq_s32(reinterpret_cast<int32x4_t>(acc[2]), x, columns, 2));
    add(acc[3], vdotq_laneq_s32(reinterpret_cast<int32x4_t>(acc[3]), x, columns, 3));
  }
  static void dot(Ints<Floats> (&acc)[kColumns], Codes x, const Code* columns) noexcept {
    dot_four(acc, x, vld1q_s8(columns));
    dot_four(acc + 4, x, vld1q_s8(columns + 16));
  }
};

}  // namespace

int64_t attention_s8s8_4x8c4__dotprod(const Piece& piece) noexcept {
  return attend<Traits>(piece);
}

}  // namespace qfx::attention
