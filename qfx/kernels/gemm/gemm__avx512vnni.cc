#include "gemm/finish__avx512vnni.h"

#include <cstring>
#include <type_traits>

#include "core/kernels_of_level.h"
#include "gemm/tile.h"

// Accumulators are named, not an array: gcc 12 spills the array.

namespace qfx::gemm {
namespace {

inline __m512i broadcast(const std::byte* p) noexcept {
  int32_t four;
  std::memcpy(&four, p, sizeof four);
  return _mm512_set1_epi32(four);
}

// X(row, base pointer, multiple of the row stride). Three rows share a base: with a base a row the
// general-purpose registers run out.
#define QFX_ROWS(X) \
  X(0, p0, 0)       \
  X(1, p0, 1)       \
  X(2, p0, 2)       \
  X(3, p3, 0)       \
  X(4, p3, 1)       \
  X(5, p3, 2) X(6, p6, 0) X(7, p6, 1) X(8, p6, 2) X(9, p9, 0) X(10, p9, 1) X(11, p9, 2) X(12, p12, 0) X(13, p12, 1)

enum class Ending { plain, residual, f32, dynamic, uniform, general };

// One step of one row. The products take their weights from memory: with fewer instructions for as many bytes, more
// loads are in flight, and such a tile waits for little else.
#define QFX_DOT_FROM(acc, x, b) \
  __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(x), "m"(*reinterpret_cast<const __m512i_u*>(b)))
template <int V>
QFX_INLINE void row_step(const std::byte* a, const std::byte* b, __m512i& c0, __m512i& c1, __m512i& c2,
                         __m512i& c3) noexcept {
  const __m512i x = broadcast(a);
  QFX_DOT_FROM(c0, x, b);
  if constexpr (V > 1) QFX_DOT_FROM(c1, x, b + 64);
  if constexpr (V > 2) QFX_DOT_FROM(c2, x, b + 128);
  if constexpr (V > 3) QFX_DOT_FROM(c3, x, b + 192);
}

// Fetching ahead is another load a step, for which tiles of few products have no time.
template <int R, int V>
constexpr bool kFetches = R > 2 && V > 1;

// What a tile adds lies apart, row by row: it is on its way while the tile is computed.
template <int R, int V>
QFX_INLINE void fetch_addend(const Output& out, int64_t first) noexcept {
  if (out.addend == nullptr) return;
  const float* row = out.addend + first * out.addend_row;
  for (int64_t r = 0; r < R; ++r, row += out.addend_row)
    for (int64_t v = 0; v < V; ++v) __builtin_prefetch(row + 16 * v);
}

// `count` tiles of R rows by V vectors, from row `first` on.
template <int R, int V, Ending kEnding>
void tiles(const Tile& t, int64_t first, int64_t count) noexcept {
  static_assert(R <= 14 && V <= 4 && R * V <= 28);
  const auto initial = [&](int v) { return v < V ? _mm512_loadu_si512(t.start + 16 * v) : _mm512_setzero_si512(); };
  // Where sums pass through memory to their ending, what they start from is read again: it would crowd the registers.
  constexpr bool kByVector = kEnding == Ending::f32 || kEnding == Ending::dynamic || kEnding == Ending::uniform;
  constexpr bool kReads = kByVector || kEnding == Ending::general;
  const auto kept = [&](int v) { return kReads ? _mm512_setzero_si512() : initial(v); };
  const __m512i k0 = kept(0), k1 = kept(1), k2 = kept(2), k3 = kept(3);
  const Output& out = t.out;
  const Finish<V> f(out);
  const Residual share(*out.epilogue);
  const int64_t s = t.a_row, y_row = out.y_row, residual_row = out.residual_row;
  const std::byte* a = t.a + first * s;
  uint8_t* y = static_cast<uint8_t*>(out.y) + first * y_row;
  const uint8_t* residual = kEnding == Ending::residual ? out.residual + first * residual_row : nullptr;
  const int64_t ahead_of_tile = t.tap_count * t.steps * kAheadBytes;
  for (int64_t end = first + count * R; first < end; first += R, a += R * s) {
    if constexpr (kReads) __asm__ volatile("" ::: "memory");
    const __m512i i0 = kReads ? initial(0) : k0, i1 = kReads ? initial(1) : k1;
    const __m512i i2 = kReads ? initial(2) : k2, i3 = kReads ? initial(3) : k3;
#define QFX_DECLARE(r, p, k) [[maybe_unused]] __m512i c##r##_0 = i0, c##r##_1 = i1, c##r##_2 = i2, c##r##_3 = i3;
    QFX_ROWS(QFX_DECLARE)
#undef QFX_DECLARE
    if constexpr (kEnding == Ending::f32 || kEnding == Ending::dynamic) fetch_addend<R, V>(out, first);
    const std::byte* b = t.b;
    const int64_t fetched = first / R * ahead_of_tile;
    const bool fetches = fetched < t.ahead_bytes;
    [[maybe_unused]] const std::byte* ahead = fetches ? t.ahead + fetched : b;
    [[maybe_unused]] const int64_t ahead_step = fetches ? kAheadBytes : 0;
    for (int64_t tap = 0; tap < t.tap_count; ++tap) {
      const std::byte* p0 = a + t.taps[tap];
      [[maybe_unused]] const std::byte *p3 = p0 + 3 * s, *p6 = p3 + 3 * s, *p9 = p6 + 3 * s, *p12 = p9 + 3 * s;
      if constexpr (R == 1) {
#pragma GCC unroll 4
        for (int64_t step = t.steps; step > 0; --step, b += 64 * V, p0 += 4) {
          row_step<V>(p0, b, c0_0, c0_1, c0_2, c0_3);
        }
        continue;
      }
      for (int64_t step = t.steps; step > 0; --step) {
        const __m512i b0 = _mm512_loadu_si512(b);
        [[maybe_unused]] __m512i b1, b2, b3;
        if constexpr (V > 1) b1 = _mm512_loadu_si512(b + 64);
        if constexpr (V > 2) b2 = _mm512_loadu_si512(b + 128);
        if constexpr (V > 3) b3 = _mm512_loadu_si512(b + 192);
#define QFX_STEP(r, p, k)                          \
  if constexpr (R > r) {                           \
    const __m512i x = broadcast(p + k * s);        \
    QFX_DOT(c##r##_0, x, b0);                      \
    if constexpr (V > 1) QFX_DOT(c##r##_1, x, b1); \
    if constexpr (V > 2) QFX_DOT(c##r##_2, x, b2); \
    if constexpr (V > 3) QFX_DOT(c##r##_3, x, b3); \
  }
        QFX_ROWS(QFX_STEP)
#undef QFX_STEP
        if constexpr (kFetches<R, V>) __builtin_prefetch(ahead, 0, 2), ahead += ahead_step;
        b += 64 * V;
        p0 += 4, p3 += 4, p6 += 4, p9 += 4, p12 += 4;
      }
    }
    if constexpr (kEnding == Ending::plain) {
#define QFX_FINISH(r, p, k) \
  if constexpr (R > r) finish_row(f, y, c##r##_0, c##r##_1, c##r##_2, c##r##_3), y += y_row;
      QFX_ROWS(QFX_FINISH)
#undef QFX_FINISH
    } else if constexpr (kEnding == Ending::residual) {
#define QFX_FINISH(r, p, k)                                                                         \
  if constexpr (R > r) {                                                                            \
    if (f.full) {                                                                                   \
      finish_row_residual<V, true>(f, share, y, residual, c##r##_0, c##r##_1, c##r##_2, c##r##_3);  \
    } else {                                                                                        \
      finish_row_residual<V, false>(f, share, y, residual, c##r##_0, c##r##_1, c##r##_2, c##r##_3); \
    }                                                                                               \
    y += y_row, residual += residual_row;                                                           \
  }
      QFX_ROWS(QFX_FINISH)
#undef QFX_FINISH
    } else if constexpr (kByVector) {
      using Finishing =
          std::conditional_t<kEnding == Ending::f32, FinishPlainF32, FinishPlainDynamic<kEnding == Ending::uniform>>;
#define QFX_FINISH(v)                \
  if constexpr (V > v) {             \
    Finishing finish(out, first, v); \
    QFX_ROWS(QFX_FINISH_ROW)         \
  }
#define QFX_FINISH_ROW(r, p, k) \
  if constexpr (R > r) finish(r, c##r##_0);
      QFX_FINISH(0)
#undef QFX_FINISH_ROW
#define QFX_FINISH_ROW(r, p, k) \
  if constexpr (R > r) finish(r, c##r##_1);
      QFX_FINISH(1)
#undef QFX_FINISH_ROW
#define QFX_FINISH_ROW(r, p, k) \
  if constexpr (R > r) finish(r, c##r##_2);
      QFX_FINISH(2)
#undef QFX_FINISH_ROW
#define QFX_FINISH_ROW(r, p, k) \
  if constexpr (R > r) finish(r, c##r##_3);
      QFX_FINISH(3)
#undef QFX_FINISH_ROW
#undef QFX_FINISH
    } else {
      alignas(64) int32_t acc[16 * V];
#define QFX_FINISH(r, p, k)                                      \
  if constexpr (R > r) {                                         \
    _mm512_store_si512(acc, c##r##_0);                           \
    if constexpr (V > 1) _mm512_store_si512(acc + 16, c##r##_1); \
    if constexpr (V > 2) _mm512_store_si512(acc + 32, c##r##_2); \
    if constexpr (V > 3) _mm512_store_si512(acc + 48, c##r##_3); \
    finish_general(out, first + r, acc);                         \
  }
      QFX_ROWS(QFX_FINISH)
#undef QFX_FINISH
    }
  }
}

template <int R, int V, Ending kEnding>
void tiles_of(const Tile& t, int64_t size, int64_t first, int64_t count) noexcept {
  if (size == R) return tiles<R, V, kEnding>(t, first, count);
  if constexpr (R > 1) tiles_of<R - 1, V, kEnding>(t, size, first, count);
}

// X(pair, base pointer and multiple of the row stride of its first row, those of its second): see QFX_ROWS.
#define QFX_PAIRS(X) \
  X(0, p0, 0, p0, 1) \
  X(1, p0, 2, p3, 0) \
  X(2, p3, 1, p3, 2) \
  X(3, p6, 0, p6, 1) \
  X(4, p6, 2, p9, 0) \
  X(5, p9, 1, p9, 2) \
  X(6, p12, 0, p12, 1)

inline __m512i twice(const void* eight) noexcept {
  return _mm512_broadcast_i64x4(_mm256_loadu_si256(static_cast<const __m256i*>(eight)));
}

// The epilogue of a pair of rows of up to 24 columns. h: columns 16 to 23 of either row, one after the other.
template <Ending kEnding>
struct FinishPair {
  explicit FinishPair(const Output& out) noexcept : f(out), share(*out.epilogue), out(out) {
    half = _mm512_castsi512_ps(twice(out.multiplier + 16));
    f.order = _mm512_setr_epi32(0, 4, 8, 12, 2, 6, 2, 6, 1, 5, 9, 13, 10, 14, 10, 14);
    first = static_cast<__mmask16>(f.columns);
    last = static_cast<__mmask16>(f.columns >> 16 & 0xff);
  }

  QFX_INLINE void operator()(int64_t row, bool both, __m512i a, __m512i b, __m512i h) const noexcept {
    if constexpr (kEnding == Ending::general) {
      alignas(64) int32_t acc[2][32] = {};
      _mm512_store_si512(acc[0], a), _mm512_store_si512(acc[1], b);
      _mm256_store_si256(reinterpret_cast<__m256i*>(acc[0] + 16), _mm512_castsi512_si256(h));
      _mm256_store_si256(reinterpret_cast<__m256i*>(acc[1] + 16), _mm512_extracti64x4_epi64(h, 1));
      finish_general(out, row, acc[0]);
      if (both) finish_general(out, row + 1, acc[1]);
      return;
    }
    __m512 va = scaled(a, f.m0), vb = scaled(b, f.m0), vh = scaled(h, half);
    if constexpr (kEnding == Ending::residual) {
      const uint8_t* ra = out.residual + row * out.residual_row;
      const uint8_t* rb = both ? ra + out.residual_row : ra;
      const __m128i rest = _mm_unpacklo_epi64(_mm_maskz_loadu_epi8(last, ra + 16), _mm_maskz_loadu_epi8(last, rb + 16));
      va = _mm512_add_ps(va, share.share(_mm_maskz_loadu_epi8(first, ra)));
      vb = _mm512_add_ps(vb, share.share(_mm_maskz_loadu_epi8(first, rb)));
      vh = _mm512_add_ps(vh, share.share(rest));
    }
    const __m512i qh = rounded(vh);
    const __m512i codes = bytes<64>(f, words(f, rounded(va), rounded(vb)), words(f, qh, qh));
    uint8_t* y = static_cast<uint8_t*>(out.y) + row * out.y_row;
    const auto columns = static_cast<__mmask32>(f.columns);
    _mm256_mask_storeu_epi8(y, columns, _mm512_castsi512_si256(codes));
    if (both) _mm256_mask_storeu_epi8(y + out.y_row, columns, _mm512_extracti64x4_epi64(codes, 1));
  }

  Finish<1> f;
  Residual share;
  const Output& out;
  __m512 half;
  __mmask16 first, last;
};

// `count` tiles of P pairs of rows by 24 columns, from row `first` on. A vector and a half: the halves of two rows
// share one. One row alone (`both` false) is a pair with itself.
template <int P, Ending kEnding>
void pair_tiles(const Tile& t, int64_t first, int64_t count, bool both) noexcept {
  static_assert(P <= 7);
  const __m512i i0 = _mm512_loadu_si512(t.start), ih = twice(t.start + 16);
  const FinishPair<kEnding> finish(t.out);
  const int64_t s = both ? t.a_row : 0;
  const std::byte* a = t.a + first * t.a_row;
  for (int64_t end = first + count * 2 * P; first < end; first += 2 * P, a += 2 * P * s) {
#define QFX_DECLARE(i, p, k, q, l) [[maybe_unused]] __m512i a##i = i0, b##i = i0, h##i = ih;
    QFX_PAIRS(QFX_DECLARE)
#undef QFX_DECLARE
    const std::byte* w = t.b;
    for (int64_t tap = 0; tap < t.tap_count; ++tap) {
      const std::byte* p0 = a + t.taps[tap];
      [[maybe_unused]] const std::byte *p3 = p0 + 3 * s, *p6 = p3 + 3 * s, *p9 = p6 + 3 * s, *p12 = p9 + 3 * s;
      for (int64_t step = t.steps; step > 0; --step) {
        const __m512i w0 = _mm512_loadu_si512(w), wh = twice(w + 64);
#define QFX_STEP(i, p, k, q, l)                                       \
  if constexpr (P > i) {                                              \
    const __m512i x = broadcast(p + k * s), z = broadcast(q + l * s); \
    QFX_DOT(a##i, x, w0);                                             \
    QFX_DOT(b##i, z, w0);                                             \
    QFX_DOT(h##i, _mm512_mask_mov_epi32(x, 0xff00, z), wh);           \
  }
        QFX_PAIRS(QFX_STEP)
#undef QFX_STEP
        w += 96;
        p0 += 4, p3 += 4, p6 += 4, p9 += 4, p12 += 4;
      }
    }
#define QFX_FINISH(i, p, k, q, l) \
  if constexpr (P > i) finish(first + 2 * i, both, a##i, b##i, h##i);
    QFX_PAIRS(QFX_FINISH)
#undef QFX_FINISH
  }
}

template <int P, Ending kEnding>
void pair_tiles_of(const Tile& t, int64_t size, int64_t first, int64_t count) noexcept {
  if (size == P) return pair_tiles<P, kEnding>(t, first, count, true);
  if constexpr (P > 1) pair_tiles_of<P - 1, kEnding>(t, size, first, count);
}

template <int P, Ending kEnding>
void all_pairs(const Tile& t, int64_t rows) noexcept {
  const int64_t pairs = rows / 2;
  if (pairs > 0) {
    const int64_t count = (pairs + P - 1) / P;
    const int64_t size = pairs / count, larger = pairs % count;
    if (larger > 0) pair_tiles_of<P, kEnding>(t, size + 1, 0, larger);
    pair_tiles_of<P, kEnding>(t, size, larger * (size + 1) * 2, count - larger);
  }
  if (rows % 2 != 0) pair_tiles<1, kEnding>(t, rows - 1, 1, false);
}

// `rows` in the fewest tiles, whose sizes differ by one at most.
template <int R, int V, Ending kEnding>
void all_rows(const Tile& t, int64_t rows) noexcept {
  if (rows <= R) return tiles_of<R, V, kEnding>(t, rows, 0, 1);  // the quotients below take longer than a short tile
  const int64_t count = (rows + R - 1) / R;
  const int64_t size = rows / count, larger = rows % count;
  if (larger > 0) tiles_of<R, V, kEnding>(t, size + 1, 0, larger);
  tiles_of<R, V, kEnding>(t, size, larger * (size + 1), count - larger);
}

template <int R, int kColumns, Ending kEnding>
void gemm_to(const Tile& t, int64_t rows) noexcept {
  if constexpr (kColumns == 24) {
    all_pairs<R / 2, kEnding>(t, rows);
  } else {
    all_rows<R, kColumns / 16, kEnding>(t, rows);
  }
}

template <int R, int kColumns>
void gemm(const Tile& t, int64_t rows) noexcept {
  const Epilogue& e = *t.out.epilogue;
  if constexpr (kColumns != 24) {
    if (t.out.dynamic.scale != nullptr && is_plain_dynamic<kColumns / 16>(t.out)) {
      return is_uniform(t.out) ? gemm_to<R, kColumns, Ending::uniform>(t, rows)
                               : gemm_to<R, kColumns, Ending::dynamic>(t, rows);
    }
    if (t.out.dynamic.scale == nullptr && is_plain_f32<kColumns / 16>(t.out))
      return gemm_to<R, kColumns, Ending::f32>(t, rows);
  }
  if (e.f32_output || !e.bounded || t.out.row_bias != nullptr) return gemm_to<R, kColumns, Ending::general>(t, rows);
  if (t.out.residual != nullptr) return gemm_to<R, kColumns, Ending::residual>(t, rows);
  gemm_to<R, kColumns, Ending::plain>(t, rows);
}

// X(stream, vector)
#define QFX_STREAMS(X) \
  X(0, 0)              \
  X(0, 1)              \
  X(0, 2) X(0, 3) X(1, 0) X(1, 1) X(1, 2) X(1, 3) X(2, 0) X(2, 1) X(2, 2) X(2, 3) X(3, 0) X(3, 1) X(3, 2) X(3, 3)

template <int V>
void streams(const Tile* t) noexcept {
  static_assert(kStreams == 4 && V <= 4);
#define QFX_DECLARE(s, v) \
  [[maybe_unused]] __m512i c##s##v = V > v ? _mm512_loadu_si512(t[s].start + 16 * v) : _mm512_setzero_si512();
  QFX_STREAMS(QFX_DECLARE)
#undef QFX_DECLARE
  const std::byte *b0 = t[0].b, *b1 = t[1].b, *b2 = t[2].b, *b3 = t[3].b;
  for (int64_t tap = 0; tap < t[0].tap_count; ++tap) {
    const std::byte* a = t[0].a + t[0].taps[tap];
    for (int64_t step = t[0].steps; step > 0; --step, a += 4) {
      const __m512i x = broadcast(a);
#define QFX_STEP(s, v) \
  if constexpr (V > v) QFX_DOT_FROM(c##s##v, x, b##s + 64 * v);
      QFX_STREAMS(QFX_STEP)
#undef QFX_STEP
      b0 += 64 * V, b1 += 64 * V, b2 += 64 * V, b3 += 64 * V;
    }
  }
  alignas(64) int32_t acc[kStreams][16 * V];
#define QFX_COLLECT(s, v) \
  if constexpr (V > v) _mm512_store_si512(acc[s] + 16 * v, c##s##v);
  QFX_STREAMS(QFX_COLLECT)
#undef QFX_COLLECT
  for (int64_t s = 0; s < kStreams; ++s) finish_general(t[s].out, 0, acc[s]);
}

}  // namespace

#undef QFX_IF_avx512vnni
#define QFX_IF_avx512vnni(...) __VA_ARGS__
#define QFX_GEMM(name, isa, rows, columns, depth, bytes) \
  QFX_IF_##isa(void name(const Tile& t, int64_t count) noexcept { gemm<rows, columns>(t, count); })
#define QFX_GEMM_STREAMS(name, isa, rows, columns)       \
  QFX_IF_##isa(                                          \
      void name(const Tile& t, int64_t count) noexcept { \
        gemm<rows, columns>(t, count);                   \
      } void name##_streams(const Tile* tiles) noexcept { streams<columns / 16>(tiles); })
#include "gemm/kernels.inc"

}  // namespace qfx::gemm
