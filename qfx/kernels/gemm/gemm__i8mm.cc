#include "core/kernels_of_level.h"
#include "gemm/row_tiles__neon.h"

// usmmla multiplies two rows of eight u8 by two columns of eight s8: an accumulator holds row 0 and then row 1.

namespace qfx::gemm {
namespace {

inline uint8x16_t two_rows(const std::byte* p, const std::byte* q) noexcept {
  return vcombine_u8(vld1_u8(reinterpret_cast<const uint8_t*>(p)), vld1_u8(reinterpret_cast<const uint8_t*>(q)));
}

inline int32x4_t low_halves(int32x4_t a, int32x4_t b) noexcept {
  return vreinterpretq_s32_s64(vzip1q_s64(vreinterpretq_s64_s32(a), vreinterpretq_s64_s32(b)));
}
inline int32x4_t high_halves(int32x4_t a, int32x4_t b) noexcept {
  return vreinterpretq_s32_s64(vzip2q_s64(vreinterpretq_s64_s32(a), vreinterpretq_s64_s32(b)));
}

struct I8mm {
  template <int R>
  static void tile(const Tile& t, int64_t first) noexcept {
    constexpr int kPairs = (R + 1) / 2;
    int32x4_t c[kPairs][4];
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      const int32x2_t two = vld1_s32(t.start + 2 * v);
#pragma GCC unroll 4
      for (int i = 0; i < kPairs; ++i) c[i][v] = vcombine_s32(two, two);
    }
    const auto* b = reinterpret_cast<const int8_t*>(t.b);
    for (int64_t tap = 0; tap < t.tap_count; ++tap) {
      const std::byte* p = t.a + first * t.a_row + t.taps[tap];
      for (int64_t step = t.steps; step > 0; --step, p += 8, b += 64) {
        uint8x16_t a[kPairs];
#pragma GCC unroll 4
        for (int i = 0; i < kPairs; ++i) {  // an odd last row is paired with itself
          a[i] = two_rows(p + 2 * i * t.a_row, p + (2 * i + 1 < R ? 2 * i + 1 : 2 * i) * t.a_row);
        }
#pragma GCC unroll 4
        for (int v = 0; v < 4; ++v) {
          const int8x16_t w = vld1q_s8(b + 16 * v);
#pragma GCC unroll 4
          for (int i = 0; i < kPairs; ++i) c[i][v] = vusmmlaq_s32(c[i][v], a[i], w);
        }
      }
    }
#pragma GCC unroll 4
    for (int i = 0; i < kPairs; ++i) {
      finish_eight(t.out, first + 2 * i, 0, {low_halves(c[i][0], c[i][1]), low_halves(c[i][2], c[i][3])});
      if (2 * i + 1 == R) break;
      finish_eight(t.out, first + 2 * i + 1, 0, {high_halves(c[i][0], c[i][1]), high_halves(c[i][2], c[i][3])});
    }
  }
};

}  // namespace

#undef QFX_IF_i8mm
#define QFX_IF_i8mm(...) __VA_ARGS__
#define QFX_GEMM(name, isa, rows, columns, depth, bytes) \
  QFX_IF_##isa(void name(const Tile& t, int64_t count) noexcept { gemm<I8mm, rows>(t, count); })
#include "gemm/kernels.inc"

}  // namespace qfx::gemm
