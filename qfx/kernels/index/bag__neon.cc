#include "core/lanes__neon.h"
#include "index/bag_lanes.h"

namespace qfx::index {
namespace {

inline uint16x4_t load_words(const std::byte* from) noexcept {
  return vld1_u16(reinterpret_cast<const uint16_t*>(from));
}

struct Halves {
  static constexpr int kBits = 16;
  static Floats at(const std::byte* from) noexcept {
    return (Floats)vcvt_f32_f16(vreinterpret_f16_u16(load_words(from)));
  }
};
struct Brains {
  static constexpr int kBits = 16;
  static Floats at(const std::byte* from) noexcept { return (Floats)vshll_n_u16(load_words(from), 16); }
};
struct Bytes {
  static constexpr int kBits = 8;
  static Ints<Floats> at(const std::byte* from) noexcept {
    uint32_t four;
    std::memcpy(&four, from, sizeof four);
    const int16x8_t words = vmovl_s8(vreinterpret_s8_u32(vdup_n_u32(four)));
    return (Ints<Floats>)vmovl_s16(vget_low_s16(words));
  }
};
struct Nibbles {
  static constexpr int kBits = 4;
  static Ints<Floats> at(const std::byte* from) noexcept {
    uint16_t four;
    std::memcpy(&four, from, sizeof four);
    const int32_t shifts[] = {28, 24, 20, 16};
    const int32x4_t high = vshlq_s32(vdupq_n_s32(four), vld1q_s32(shifts));
    return (Ints<Floats>)vshrq_n_s32(high, 28);
  }
};

}  // namespace

void bag_f32_x4__neon(const BagPart& part, float* y) noexcept {
  fold_rows<Floats32>(part, y);
}
void bag_f16_x4__neon(const BagPart& part, float* y) noexcept {
  fold_rows<Halves>(part, y);
}
void bag_bf16_x4__neon(const BagPart& part, float* y) noexcept {
  fold_rows<Brains>(part, y);
}
void bag_s8_x4__neon(const BagPart& part, float* y) noexcept {
  fold_rows<Bytes>(part, y);
}
void bag_s4_x4__neon(const BagPart& part, float* y) noexcept {
  fold_rows<Nibbles>(part, y);
}

}  // namespace qfx::index
