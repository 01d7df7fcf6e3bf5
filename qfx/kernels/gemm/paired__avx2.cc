#include "core/kernels_of_level.h"
#include "gemm/finish__avxvnni.h"
#include "gemm/pairing.h"
#include "gemm/row_tiles.h"
#include "gemm/tile.h"

// u8 activations and s8 weights by vpmaddubsw: see pairing.h. Accumulators are named, not an array: gcc 12 spills the
// array.

namespace qfx::gemm {
namespace {

#define QFX_INLINE __attribute__((always_inline)) inline

QFX_INLINE __m256i broadcast(const std::byte* p) noexcept {
  int32_t four;
  std::memcpy(&four, p, sizeof four);
  return _mm256_set1_epi32(four);
}

QFX_INLINE __m256i load(const void* p) noexcept {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}

constexpr bool turns_first(Pairing kind) noexcept {
  return kind != Pairing::plain;
}

constexpr bool is_pair(Pairing kind) noexcept {
  return kind == Pairing::turned_and_plain || kind == Pairing::both_turned;
}

// A group's weights for V vectors of eight columns; its masks stay in memory.
template <int V, Pairing kKind>
struct Weights {
  static constexpr int64_t kMasks = is_pair(kKind) ? 64 * V : 32 * V;
  static constexpr int64_t kBytes = kMasks + (kKind == Pairing::both_turned ? 64 * V : turns_first(kKind) ? 32 * V : 0);

  QFX_INLINE explicit Weights(const std::byte* b) noexcept : masks(b + kMasks) {
    first0 = load(b);
    if constexpr (V > 1) first1 = load(b + 32);
    if constexpr (is_pair(kKind)) second0 = load(b + 32 * V);
    if constexpr (V > 1 && is_pair(kKind)) second1 = load(b + 96);
  }

  // The sums of two products of one vector, of activations x and y.
  QFX_INLINE __m256i sums(__m256i x, __m256i y, __m256i first, __m256i second, int v) const noexcept {
    __m256i sum;
    if constexpr (turns_first(kKind)) {
      sum = _mm256_maddubs_epi16(first, _mm256_xor_si256(x, load(masks + 32 * v)));
    } else {
      sum = _mm256_maddubs_epi16(x, first);
    }
    if constexpr (kKind == Pairing::turned_and_plain) {
      sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(y, second));
    } else if constexpr (kKind == Pairing::both_turned) {
      const __m256i turned = _mm256_xor_si256(y, load(masks + 32 * (V + v)));
      sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(second, turned));
    }
    return sum;
  }

  // One row, whose steps lie at p and q.
  QFX_INLINE void row(const std::byte* p, const std::byte* q, __m256i ones, __m256i& c0, __m256i& c1) const noexcept {
    const __m256i x = broadcast(p), y = is_pair(kKind) ? broadcast(q) : x;
    c0 = _mm256_add_epi32(c0, _mm256_madd_epi16(sums(x, y, first0, second0, 0), ones));
    if constexpr (V > 1) c1 = _mm256_add_epi32(c1, _mm256_madd_epi16(sums(x, y, first1, second1, 1), ones));
  }

  const std::byte* masks;
  __m256i first0, first1, second0, second1;
};

// X(row, base pointers of both steps, multiple of the row stride)
#define QFX_ROWS(X) \
  X(0, p0, q0, 0)   \
  X(1, p0, q0, 1) X(2, p0, q0, 2) X(3, p3, q3, 0) X(4, p3, q3, 1) X(5, p3, q3, 2) X(6, p6, q6, 0) X(7, p6, q6, 1)

// R rows by V vectors of eight columns, from row `first` on.
template <int R, int V, Ending kEnding>
void tile(const Tile& t, int64_t first) noexcept {
  static_assert(R * V <= 8 && 8 * V <= kPairedColumns);
  const __m256i i0 = load(t.start), i1 = V > 1 ? load(t.start + 8) : i0;
#define QFX_DECLARE(r, p, q, k) [[maybe_unused]] __m256i c##r##_0 = i0, c##r##_1 = i1;
  QFX_ROWS(QFX_DECLARE)
#undef QFX_DECLARE
  __m256i ones = _mm256_set1_epi16(1);
  __asm__("" : "+x"(ones));  // in a register
  const int64_t s = t.a_row;
  const std::byte* b = t.b;
  const int32_t* order = t.order;
  for (int64_t tap = 0; tap < t.tap_count; ++tap) {
    const std::byte* run = t.a + first * s + t.taps[tap];
#define QFX_STEP(r, p, q, k) \
  if constexpr (R > r) weights.row(p + k * s, q + k * s, ones, c##r##_0, c##r##_1);
#define QFX_GROUPS(kind)                                                                                     \
  for (int32_t n = *order++; n > 0; --n, b += Weights<V, kind>::kBytes) {                                    \
    const Weights<V, kind> weights(b);                                                                       \
    const std::byte *p0 = run + order[0], *q0 = run + order[is_pair(kind) ? 1 : 0];                          \
    [[maybe_unused]] const std::byte *p3 = p0 + 3 * s, *q3 = q0 + 3 * s, *p6 = p3 + 3 * s, *q6 = q3 + 3 * s; \
    QFX_ROWS(QFX_STEP)                                                                                       \
    order += is_pair(kind) ? 2 : 1;                                                                          \
  }
    QFX_GROUPS(Pairing::turned_and_plain)
    QFX_GROUPS(Pairing::both_turned)
    QFX_GROUPS(Pairing::plain)
    QFX_GROUPS(Pairing::turned)
#undef QFX_GROUPS
#undef QFX_STEP
  }
  __m256i acc[R * V];
#define QFX_COLLECT(r, p, q, k)                     \
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
#define QFX_GEMM(name, isa, rows, columns, depth, bytes)
#define QFX_GEMM_PAIRED(name, isa, rows, columns) \
  QFX_IF_##isa(void name(const Tile& t, int64_t count) noexcept { gemm<rows, columns / 8>(t, count); })
#include "gemm/kernels.inc"

}  // namespace qfx::gemm
