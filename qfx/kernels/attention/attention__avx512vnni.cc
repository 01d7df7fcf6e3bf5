#if defined(__GNUC__) && !defined(__clang__)
// gcc 12's own intrinsics start from "undefined" vectors and warn about themselves (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
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
  static constexpr bool kOverlaps = true;

  static Codes pack(const Ints<Floats> (&v)[4]) noexcept {
    const auto low = [](int32_t bits, Ints<Floats> a, Ints<Floats> b) {
      constexpr int kFirstWhereSet = 0xca;
      return _mm512_ternarylogic_epi32(_mm512_set1_epi32(bits), reinterpret_cast<Codes>(a), reinterpret_cast<Codes>(b),
                                       kFirstWhereSet);
    };
    const auto first = reinterpret_cast<Ints<Floats>>(low(0xff, v[0], v[1] << 8));
    const auto second = reinterpret_cast<Ints<Floats>>(low(0xff, v[2], v[3] << 8));
    return low(0xffff, first, second << 16);
  }
  static Codes turned(Codes x) noexcept {
    const __m128i order = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm512_shuffle_epi8(x, _mm512_maskz_broadcast_i32x4(kAll, order));
  }
  static Codes shifted(Codes x) noexcept { return _mm512_xor_si512(x, _mm512_set1_epi8(-128)); }
  static void start(const Code* columns, int64_t steps, int32_t* to) noexcept {
    const auto load = [](const Code* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); };
    const __m256i shift = _mm256_set1_epi8(-128);
    __m256i sums = _mm256_setzero_si256();
    for (int64_t s = 0; s < steps; ++s) {
      sums = _mm256_dpbusd_epi32(sums, shift, load(columns + s * kColumns * kGroup));
    }
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_sub_epi32(_mm256_setzero_si256(), sums));
  }

  static void dot(Ints<Floats> (&acc)[kColumns], Codes x, const Code* columns) noexcept {
    for (int64_t n = 0; n < kColumns; ++n) {
      Ints<Floats> sum = acc[n];              // gcc 12 keeps what assembly names by an index in memory
      __asm__("vpdpbusd %2%{1to16%}, %1, %0"  // and loads what the intrinsic broadcasts
              : "+v"(sum)
              : "v"(x), "m"(*reinterpret_cast<const int32_t*>(columns + n * kGroup)));
      acc[n] = sum;
    }
  }
};

}  // namespace

int64_t attention_u8s8_16x8c4__avx512vnni(const Piece& piece) noexcept {
  return attend<Traits>(piece);
}

}  // namespace qfx::attention
