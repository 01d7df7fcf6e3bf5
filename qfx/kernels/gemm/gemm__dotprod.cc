#include "core/kernels_of_level.h"
#include "gemm/row_tiles__neon.h"

// Dot products of four s8: activations are read 128 less than they are, see QFX_GEMM_S8.

namespace qfx::gemm {
namespace {

inline int8x16_t shifted(uint8x16_t codes) noexcept {
  return vreinterpretq_s8_u8(veorq_u8(codes, vdupq_n_u8(0x80)));
}

inline const uint8_t* bytes(const std::byte* p) noexcept {
  return reinterpret_cast<const uint8_t*>(p);
}

// One step: four weights of each of eight columns by lane `Lane` of each row's activations.
template <int Lane, int R>
inline void multiply(Eight (&c)[R], const int8x16_t (&a)[R], const int8_t* b) noexcept {
  const int8x16_t low = vld1q_s8(b), high = vld1q_s8(b + 16);
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    c[r].low = vdotq_laneq_s32(c[r].low, low, a[r], Lane);
    c[r].high = vdotq_laneq_s32(c[r].high, high, a[r], Lane);
  }
}

struct DotProd {
  template <int R>
  static void tile(const Tile& t, int64_t first) noexcept {
    Eight c[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) c[r] = load_eight(t.start);
    const auto* b = reinterpret_cast<const int8_t*>(t.b);
    for (int64_t tap = 0; tap < t.tap_count; ++tap) {
      const uint8_t* p = bytes(t.a + first * t.a_row + t.taps[tap]);
      int8x16_t a[R];
      int64_t step = t.steps;
      for (; step >= 4; step -= 4, p += 16, b += 128) {
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) a[r] = shifted(vld1q_u8(p + r * t.a_row));
        multiply<0>(c, a, b);
        multiply<1>(c, a, b + 32);
        multiply<2>(c, a, b + 64);
        multiply<3>(c, a, b + 96);
      }
      for (; step > 0; --step, p += 4, b += 32) {
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
          uint32_t four;
          std::memcpy(&four, p + r * t.a_row, sizeof four);
          a[r] = shifted(vreinterpretq_u8_u32(vdupq_n_u32(four)));
        }
        multiply<0>(c, a, b);
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) finish_eight(t.out, first + r, 0, c[r]);
  }
};

}  // namespace

#undef QFX_IF_dotprod
#define QFX_IF_dotprod(...) __VA_ARGS__
#define QFX_GEMM(name, isa, rows, columns, depth, bytes) \
  QFX_IF_##isa(void name(const Tile& t, int64_t count) noexcept { gemm<DotProd, rows>(t, count); })
#include "gemm/kernels.inc"

}  // namespace qfx::gemm
