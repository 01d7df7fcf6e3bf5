#include <arm_neon.h>

#include "attention/tile.h"
#include "core/lanes__neon.h"

namespace qfx::attention {
namespace {

struct Traits {
  using Floats = qfx::Floats;
  using Codes = int16x4_t;
  using Code = int16_t;
  static constexpr int64_t kGroup = 1;
  static constexpr int32_t kQueryShift = 0, kWeightShift = 0;
  static constexpr bool kOverlaps = false;

  static Codes pack(const Ints<Floats> (&v)[1]) noexcept { return vmovn_s32(reinterpret_cast<int32x4_t>(v[0])); }

  template <int kFirst>
  static void dot_four(Ints<Floats>* acc, Codes x, int16x8_t columns) noexcept {
    const auto add = [&](Ints<Floats>& to, int32x4_t sum) { to = reinterpret_cast<Ints<Floats>>(sum); };
    add(acc[0], vmlal_laneq_s16(reinterpret_cast<int32x4_t>(acc[0]), x, columns, kFirst));
    add(acc[1], vmlal_laneq_s16(reinterpret_cast<int32x4_t>(acc[1]), x, columns, kFirst + 1));
    add(acc[2], vmlal_laneq_s16(reinterpret_cast<int32x4_t>(acc[2]), x, columns, kFirst + 2));
    add(acc[3], vmlal_laneq_s16(reinterpret_cast<int32x4_t>(acc[3]), x, columns, kFirst + 3));
  }
  static void dot(Ints<Floats> (&acc)[kColumns], Codes x, const Code* columns) noexcept {
    const int16x8_t all_columns = vld1q_s16(columns);
    dot_four<0>(acc, x, all_columns);
    dot_four<4>(acc + 4, x, all_columns);
  }
};

}  // namespace

int64_t attention_s16s16_4x8c1__neon(const Piece& piece) noexcept {
  return attend<Traits>(piece);
}

}  // namespace qfx::attention
