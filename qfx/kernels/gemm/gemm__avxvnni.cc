#include "core/dot__avxvnni.h"
#include "core/kernels_of_level.h"
#include "gemm/finish__avxvnni.h"
#include "gemm/row_tiles.h"
#include "gemm/tile.h"

// Accumulators are named, not an array: gcc 12 spills the array.

namespace qfx::gemm {
namespace {

inline __m256i broadcast(const std::byte* p) noexcept {
  int32_t four;
  std::memcpy(&four, p, sizeof four);
  return _mm256_set1_epi32(four);
}

inline __m256i load(const void* p) noexcept {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}

// X(row, base pointer, multiple of the row stride). Three rows share a base: with a base a row the general-purpose
// registers run out.
#define QFX_ROWS(X) \
  X(0, p0, 0)       \
  X(1, p0, 1)       \
  X(2, p0, 2)       \
  X(3, p3, 0) X(4, p3, 1) X(5, p3, 2) X(6, p6, 0) X(7, p6, 1) X(8, p6, 2) X(9, p9, 0) X(10, p9, 1) X(11, p9, 2)

// R rows by V vectors of eight columns, from row `first` on.
template <int R, int V, Ending kEnding>
void tile(const Tile& t, int64_t first) noexcept {
  static_assert(R <= 12 && V <= 3 && R * V + V + 1 <= 16);
  const auto initial = [&](int v) { return v < V ? load(t.start + 8 * v) : _mm256_setzero_si256(); };
  const __m256i i0 = initial(0), i1 = initial(1), i2 = initial(2);
#define QFX_DECLARE(r, p, k) [[maybe_unused]] __m256i c##r##_0 = i0, c##r##_1 = i1, c##r##_2 = i2;
  QFX_ROWS(QFX_DECLARE)
#undef QFX_DECLARE
  const int64_t s = t.a_row;
  const std::byte* b = t.b;
  for (int64_t tap = 0; tap < t.tap_count; ++tap) {
    const std::byte* p0 = t.a + first * s + t.taps[tap];
    [[maybe_unused]] const std::byte *p3 = p0 + 3 * s, *p6 = p3 + 3 * s, *p9 = p6 + 3 * s;
    for (int64_t step = t.steps; step > 0; --step) {
      const __m256i b0 = load(b);
      [[maybe_unused]] __m256i b1, b2;
      if constexpr (V > 1) b1 = load(b + 32);
      if constexpr (V > 2) b2 = load(b + 64);
#define QFX_STEP(r, p, k)                          \
  if constexpr (R > r) {                           \
    const __m256i x = broadcast(p + k * s);        \
    QFX_DOT(c##r##_0, x, b0);                      \
    if constexpr (V > 1) QFX_DOT(c##r##_1, x, b1); \
    if constexpr (V > 2) QFX_DOT(c##r##_2, x, b2); \
  }
      QFX_ROWS(QFX_STEP)
#undef QFX_STEP
      b += 32 * V;
      p0 += 4, p3 += 4, p6 += 4, p9 += 4;
    }
  }
  __m256i acc[R * V];
#define QFX_COLLECT(r, p, k)                        \
  if constexpr (R > r) {                            \
    acc[r * V] = c##r##_0;                          \
    if constexpr (V > 1) acc[r * V + 1] = c##r##_1; \
    if constexpr (V > 2) acc[r * V + 2] = c##r##_2; \
  }
  QFX_ROWS(QFX_COLLECT)
#undef QFX_COLLECT
  finish_rows<R, V, kEnding>(t.out, first, 0, acc);
}

template <int R, int V>
void gemm(const Tile& t, int64_t rows) noexcept {
  by_ending(t.out, 0, 8 * V, [&](auto ending) {
    in_tiles<R>(rows, [&](auto size, int64_t first) { tile<size, V, decltype(ending)::value>(t, first); });
  });
}

}  // namespace
}  // namespace qfx::gemm

QFX_KERNELS(gemm) {
#undef QFX_IF_avxvnni
#define QFX_IF_avxvnni(...) __VA_ARGS__
#define QFX_GEMM(name, isa, rows, columns, depth, bytes) \
  QFX_IF_##isa(void name(const Tile& t, int64_t count) noexcept { gemm<rows, columns / 8>(t, count); })
#include "gemm/kernels.inc"
}
