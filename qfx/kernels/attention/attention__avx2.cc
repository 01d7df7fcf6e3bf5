#include <immintrin.h>

#include "attention/tile.h"
#include "core/lanes__avx2.h"

namespace qfx::attention {
namespace {

struct Traits {
  using Floats = qfx::Floats;
  using Codes = __m256i;
  using Code = int16_t;
  static constexpr int64_t kGroup = 2;
  static constexpr int32_t kQueryShift = 0, kWeightShift = 0;
  static constexpr bool kOverlaps = false;

  static Codes pack(const Ints<Floats> (&v)[2]) noexcept {
    return reinterpret_cast<Codes>((v[0] & 0xffff) | v[1] << 16);
  }

  static void dot(Ints<Floats> (&acc)[kColumns], Codes x, const Code* columns) noexcept {
    for (int64_t n = 0; n < kColumns; ++n) {
      int32_t column;
      std::memcpy(&column, columns + n * kGroup, sizeof column);
      acc[n] += reinterpret_cast<Ints<Floats>>(_mm256_madd_epi16(x, _mm256_set1_epi32(column)));
    }
  }
};

}  // namespace

int64_t attention_s16s16_8x8c2__avx2(const Piece& piece) noexcept {
  return attend<Traits>(piece);
}

}  // namespace qfx::attention
