#include "core/kernels_of_level.h"
#include "gemm/finish__avxvnni.h"
#include "gemm/row_tiles.h"
#include "gemm/tile.h"

// Activations and weights are s16: vpmaddubsw would saturate. Accumulators are named, not an array: gcc 12 spills
// the array.

namespace qfx::gemm {
namespace {

inline __m256i broadcast(const std::byte* p) noexcept {
  int32_t two;
  std::memcpy(&two, p, sizeof two);
  return _mm256_set1_epi32(two);
}

inline __m256i load(const std::byte* p) noexcept {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}

inline void dot(__m256i& acc, __m256i a, __m256i b) noexcept {
  acc = _mm256_add_epi32(acc, _mm256_madd_epi16(a, b));
}

#define QFX_ROWS(X) X(0, p0, 0) X(1, p0, 1) X(2, p0, 2) X(3, p3, 0) X(4, p3, 1) X(5, p3, 2)

// R rows from row `first` on.
template <int R, int V, Ending kEnding>
void tile(const Tile& t, int64_t first) noexcept {
  static_assert(R <= 6 && V <= 2);
  const __m256i i0 = load(reinterpret_cast<const std::byte*>(t.start));
  const __m256i i1 = V > 1 ? load(reinterpret_cast<const std::byte*>(t.start + 8)) : i0;
#define QFX_DECLARE(r, p, k) [[maybe_unused]] __m256i c##r##_0 = i0, c##r##_1 = i1;
  QFX_ROWS(QFX_DECLARE)
#undef QFX_DECLARE
  const int64_t s = t.a_row;
  const std::byte* b = t.b;
  for (int64_t tap = 0; tap < t.tap_count; ++tap) {
    const std::byte* p0 = t.a + first * s + t.taps[tap];
    [[maybe_unused]] const std::byte* p3 = p0 + 3 * s;
    for (int64_t step = t.steps; step > 0; --step, p0 += 4, p3 += 4, b += 32 * V) {
      const __m256i b0 = load(b);
      [[maybe_unused]] __m256i b1;
      if constexpr (V > 1) b1 = load(b + 32);
#define QFX_STEP(r, p, k)                      \
  if constexpr (R > r) {                       \
    const __m256i a = broadcast(p + k * s);    \
    dot(c##r##_0, a, b0);                      \
    if constexpr (V > 1) dot(c##r##_1, a, b1); \
  }
      QFX_ROWS(QFX_STEP)
#undef QFX_STEP
    }
  }
  __m256i acc[R * V];
#define QFX_COLLECT(r, p, k)                        \
  if constexpr (R > r) {                            \
    acc[r * V] = c##r##_0;                          \
    if constexpr (V > 1) acc[r * V + 1] = c##r##_1; \
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

#undef QFX_IF_avx2
#define QFX_IF_avx2(...) __VA_ARGS__
#define QFX_GEMM_PAIRED(name, isa, rows, columns)
#define QFX_GEMM(name, isa, rows, columns, depth, bytes) \
  QFX_IF_##isa(void name(const Tile& t, int64_t count) noexcept { gemm<rows, columns / 8>(t, count); })
#include "gemm/kernels.inc"

}  // namespace qfx::gemm
