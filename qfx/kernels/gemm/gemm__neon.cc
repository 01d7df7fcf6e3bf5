#include "core/kernels_of_level.h"
#include "gemm/row_tiles__neon.h"

// Activations and weights are s16, products s32: exact for every value.

namespace qfx::gemm {
namespace {

const int16_t* words(const std::byte* p) noexcept {
  return reinterpret_cast<const int16_t*>(p);
}

// One step: the weights of eight columns by lane `Lane` of each row's activations.
template <int Lane, int R>
inline void multiply(Eight (&c)[R], const int16x4_t (&a)[R], const int16_t* b) noexcept {
  const int16x8_t w = vld1q_s16(b);
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    c[r].low = vmlal_lane_s16(c[r].low, vget_low_s16(w), a[r], Lane);
    c[r].high = vmlal_high_lane_s16(c[r].high, w, a[r], Lane);
  }
}

struct Neon {
  template <int R>
  static void tile(const Tile& t, int64_t first) noexcept {
    Eight c[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) c[r] = load_eight(t.start);
    const int64_t row = t.a_row / 2;
    const int16_t* b = words(t.b);
    for (int64_t tap = 0; tap < t.tap_count; ++tap) {
      const int16_t* p = words(t.a + first * t.a_row + t.taps[tap]);
      int16x4_t a[R];
      int64_t step = t.steps;
      for (; step >= 4; step -= 4, p += 4, b += 32) {
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) a[r] = vld1_s16(p + r * row);
        multiply<0>(c, a, b);
        multiply<1>(c, a, b + 8);
        multiply<2>(c, a, b + 16);
        multiply<3>(c, a, b + 24);
      }
      for (; step > 0; --step, ++p, b += 8) {
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) a[r] = vld1_dup_s16(p + r * row);
        multiply<0>(c, a, b);
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) finish_eight(t.out, first + r, 0, c[r]);
  }
};

}  // namespace

#undef QFX_IF_neon
#define QFX_IF_neon(...) __VA_ARGS__
#define QFX_GEMM(name, isa, rows, columns, depth, bytes) \
  QFX_IF_##isa(void name(const Tile& t, int64_t count) noexcept { gemm<Neon, rows>(t, count); })
#include "gemm/kernels.inc"

}  // namespace qfx::gemm
