#include "recurrent/tile__neon.h"

namespace qfx::recurrent {
namespace {

struct I8mm {
  struct Sums {
    int32x4_t whole = vdupq_n_s32(0);
  };
  static void add(Sums& s, const uint8_t* x, const int8_t* w) noexcept {
    s.whole = vusdotq_s32(s.whole, vreinterpretq_u8_u32(vld1q_dup_u32(words(x))), vld1q_s8(w));
  }
  static int32x4_t total(const Sums& s) noexcept { return s.whole; }
};

}  // namespace

void product_u8s8_2x16c4__i8mm(const Panel& panel, const Codes& codes, int64_t rows, float* y,
                               int64_t y_stride) noexcept {
  multiply<I8mm>(panel, codes, rows, y, y_stride);
}

}  // namespace qfx::recurrent
