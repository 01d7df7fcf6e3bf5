#include <immintrin.h>

#include "attention/tile.h"
#include "core/lanes__avx512vnni.h"

namespace qfx::attention {
namespace {

struct Traits {
  using Floats = qfx::Floats;
  using Codes = __m512i;
  using Code = int8_t;
  static constexpr int64_t kGroup = 4;
  static constexpr int32_t kQueryShift = 128, kWeightShift = 0;

  static Codes pack(const Ints<Floats> (&v)[4]) noexcept {
    const Ints<Floats> low = (v[0] & 0xff) | (v[1] & 0xff) << 8;
    return reinterpret_cast<Codes>(low | (v[2] & 0xff) << 16 | v[3] << 24);
  }
  static Codes shifted(Codes x) noexcept { return _mm512_xor_si512(x, shifts(-128)); }
  static Codes shifts(int32_t shift) noexcept { return _mm512_set1_epi8(static_cast<char>(shift)); }

  static void dot(Ints<Floats> (&acc)[kColumns], Codes x, const Code* columns) noexcept {
    for (int64_t n = 0; n < kColumns; ++n) {
      int32_t column;
      std::memcpy(&column, columns + n * kGroup, sizeof column);
      acc[n] = reinterpret_cast<Ints<Floats>>(
          _mm512_dpbusd_epi32(reinterpret_cast<__m512i>(acc[n]), x, _mm512_set1_epi32(column)));
    }
  }
};

}  // namespace

int64_t attention_u8s8_16x8c4__avx512vnni(const Piece& piece) noexcept {
  return attend<Traits>(piece);
}

}  // namespace qfx::attention
