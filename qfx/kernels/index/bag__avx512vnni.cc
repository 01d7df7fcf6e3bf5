#include "core/lanes__avx512vnni.h"
#include "index/bag_lanes.h"

namespace qfx::index {
namespace {

inline __m256i load_words(const std::byte* from) noexcept {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
}

struct Halves {
  static constexpr int kBits = 16;
  static Floats at(const std::byte* from) noexcept { return _mm512_maskz_cvtph_ps(kAll, load_words(from)); }
};
struct Brains {
  static constexpr int kBits = 16;
  static Floats at(const std::byte* from) noexcept {
    const __m512i words = _mm512_maskz_cvtepu16_epi32(kAll, load_words(from));
    return floats<Floats>((Ints<Floats>)_mm512_maskz_slli_epi32(kAll, words, 16));
  }
};
struct Bytes {
  static constexpr int kBits = 8;
  static Ints<Floats> at(const std::byte* from) noexcept {
    const __m128i codes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    return (Ints<Floats>)_mm512_maskz_cvtepi8_epi32(kAll, codes);
  }
};
struct Nibbles {
  static constexpr int kBits = 4;
  static Ints<Floats> at(const std::byte* from) noexcept {
    const __m512i codes = _mm512_zextsi128_si512(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
    const __m512i half = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
    const __m512i to_top = _mm512_setr_epi32(28, 24, 20, 16, 12, 8, 4, 0, 28, 24, 20, 16, 12, 8, 4, 0);
    const __m512i eights = _mm512_maskz_permutexvar_epi32(kAll, half, codes);
    const __m512i high = _mm512_maskz_sllv_epi32(kAll, eights, to_top);
    return (Ints<Floats>)_mm512_maskz_srai_epi32(kAll, high, 28);
  }
};

}  // namespace

void bag_f32_x16__avx512vnni(const BagPart& part, float* y) noexcept {
  fold_rows<Floats32>(part, y);
}
void bag_f16_x16__avx512vnni(const BagPart& part, float* y) noexcept {
  fold_rows<Halves>(part, y);
}
void bag_bf16_x16__avx512vnni(const BagPart& part, float* y) noexcept {
  fold_rows<Brains>(part, y);
}
void bag_s8_x16__avx512vnni(const BagPart& part, float* y) noexcept {
  fold_rows<Bytes>(part, y);
}
void bag_s4_x16__avx512vnni(const BagPart& part, float* y) noexcept {
  fold_rows<Nibbles>(part, y);
}

}  // namespace qfx::index
