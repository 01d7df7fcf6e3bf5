#include "core/lanes__avx2.h"
#include "index/bag_lanes.h"

namespace qfx::index {
namespace {

inline __m128i load_words(const std::byte* from) noexcept {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
}

struct Halves {
  static constexpr int kBits = 16;
  static Floats at(const std::byte* from) noexcept { return _mm256_cvtph_ps(load_words(from)); }
};
struct Brains {
  static constexpr int kBits = 16;
  static Floats at(const std::byte* from) noexcept {
    return floats<Floats>((Ints<Floats>)_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_words(from)), 16));
  }
};
struct Bytes {
  static constexpr int kBits = 8;
  static Ints<Floats> at(const std::byte* from) noexcept {
    return (Ints<Floats>)_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
  }
};
struct Nibbles {
  static constexpr int kBits = 4;
  static Ints<Floats> at(const std::byte* from) noexcept {
    int eight;
    std::memcpy(&eight, from, sizeof eight);
    const __m256i to_top = _mm256_setr_epi32(28, 24, 20, 16, 12, 8, 4, 0);
    return (Ints<Floats>)_mm256_srai_epi32(_mm256_sllv_epi32(_mm256_set1_epi32(eight), to_top), 28);
  }
};

}  // namespace

void bag_f32_x8__avx2(const BagPart& part, float* y) noexcept {
  fold_rows<Floats32>(part, y);
}
void bag_f16_x8__avx2(const BagPart& part, float* y) noexcept {
  fold_rows<Halves>(part, y);
}
void bag_bf16_x8__avx2(const BagPart& part, float* y) noexcept {
  fold_rows<Brains>(part, y);
}
void bag_s8_x8__avx2(const BagPart& part, float* y) noexcept {
  fold_rows<Bytes>(part, y);
}
void bag_s4_x8__avx2(const BagPart& part, float* y) noexcept {
  fold_rows<Nibbles>(part, y);
}

}  // namespace qfx::index
