#include <immintrin.h>

#include "attention/tile.h"
#include "core/dot__avxvnni.h"
#include "core/kernels_of_level.h"
#include "core/lanes__avx2.h"

namespace qfx::attention {
namespace {

struct Traits {
  using Floats = qfx::Floats;
  using Codes = __m256i;
  using Code = int8_t;
  static constexpr int64_t kGroup = 4;
  static constexpr int32_t kQueryShift = 128, kWeightShift = 0;
  static constexpr bool kOverlaps = false;

  static Codes pack(const Ints<Floats> (&v)[4]) noexcept { return reinterpret_cast<Codes>(low_bytes<Floats>(v)); }
  static Codes turned(Codes x) noexcept {
    const __m128i order = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm256_shuffle_epi8(x, _mm256_broadcastsi128_si256(order));
  }
  static Codes shifted(Codes x) noexcept { return _mm256_xor_si256(x, _mm256_set1_epi8(-128)); }
  static void start(const Code* columns, int64_t steps, int32_t* to) noexcept {
    const auto load = [](const Code* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); };
    const __m256i shift = _mm256_set1_epi8(-128);
    __m256i sums = _mm256_setzero_si256();
    for (int64_t s = 0; s < steps; ++s) {
      const __m256i y = load(columns + s * kColumns * kGroup);
      QFX_DOT(sums, shift, y);
    }
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_sub_epi32(_mm256_setzero_si256(), sums));
  }

  static void dot(Ints<Floats> (&acc)[kColumns], Codes x, const Code* columns) noexcept {
    for (int64_t n = 0; n < kColumns; ++n) {
      int32_t column;
      std::memcpy(&column, columns + n * kGroup, sizeof column);
      const __m256i y = _mm256_set1_epi32(column);
      QFX_DOT(acc[n], x, y);
    }
  }
};

}  // namespace
}  // namespace qfx::attention

QFX_KERNELS(attention) {
  int64_t attention_u8s8_8x8c4__avxvnni(const Piece& piece) noexcept {
    return attend<Traits>(piece);
  }
}
