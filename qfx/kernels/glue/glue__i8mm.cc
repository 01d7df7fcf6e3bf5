#include "glue/dot_tile__neon.h"

namespace qfx::glue {
namespace {

struct I8mm {
  static constexpr int64_t kDepth = 16;
  static uint8x16_t codes(const uint8_t* x) noexcept { return vld1q_u8(x); }
  static int8x16_t weights(const int8_t* w) noexcept { return vld1q_s8(w); }
  static int32x4_t add(int32x4_t acc, uint8x16_t u, int8x16_t v) noexcept { return vusdotq_s32(acc, u, v); }
};

}  // namespace

void dot_u8s8s32_2x4c16__i8mm(const DotBlock& block) noexcept {
  dot<I8mm>(block);
}

}  // namespace qfx::glue
