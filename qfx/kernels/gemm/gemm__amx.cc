#include <type_traits>
#include <utility>

#include "core/kernels_of_level.h"
#include "core/tile__amx.h"
#include "gemm/finish__avx512vnni.h"
#include "gemm/tile.h"

namespace qfx::gemm {
namespace {

constexpr int kRows = 16;     // of a tile
constexpr int kColumns = 16;  // of s32
constexpr int kSteps = kTileSteps;

// A block is M tiles of pixels, of which the last may have fewer rows, by V tiles of columns. Tile registers: the
// accumulators from 0 on, row by row; then activations, of the last tile of pixels and of the others; then weights.
constexpr int kLast = 4, kOther = 5, kWeights = 6;

template <int M, int V>
tile::Config block_config(int64_t last_rows) noexcept {
  static_assert(M * V <= kLast && V <= 2);
  tile::Config config;
  const auto set = [&](int t, int64_t rows) {
    config.rows[t] = static_cast<uint8_t>(rows);
    config.row_bytes[t] = 64;
  };
  for (int i = 0; i < M * V; ++i) set(i, i / V == M - 1 ? last_rows : kRows);
  set(kLast, last_rows);
  set(kOther, kRows);
  for (int v = 0; v < V; ++v) set(kWeights + v, kSteps);
  return config;
}

template <int N, class Fn>
QFX_INLINE void unrolled(Fn&& fn) noexcept {
  [&]<int... kIndex>(std::integer_sequence<int, kIndex...>)
      QFX_INLINE_LAMBDA { (fn(std::integral_constant<int, kIndex>{}), ...); }(std::make_integer_sequence<int, N>{});
}

// From the bias, which every row of the accumulators starts with, to [16 M][16 V] sums.
template <int M, int V>
void accumulate(const Tile& t, const std::byte* a, int32_t* acc) noexcept {
  const int64_t s = t.a_row;
  unrolled<M * V>([&](auto i) QFX_INLINE_LAMBDA { tile::load<i>(t.start + i % V * kColumns, 0); });
  const std::byte* b = t.b;
  for (int64_t tap = 0; tap < t.tap_count; ++tap) {
    const std::byte* p = a + t.taps[tap];
    for (int64_t step = t.steps; step > 0; step -= kSteps, p += 4 * kSteps, b += 64 * V * kSteps) {
      unrolled<V>([&](auto v) QFX_INLINE_LAMBDA { tile::load<kWeights + v>(b + v * 64, 64 * V); });
      unrolled<M>([&](auto m) QFX_INLINE_LAMBDA {
        constexpr int kFirst = m * V, kActivations = m == M - 1 ? kLast : kOther;
        tile::load<kActivations>(p + m * kRows * s, s);
        unrolled<V>([&](auto v) QFX_INLINE_LAMBDA { tile::dot_u8s8<kFirst + v, kActivations, kWeights + v>(); });
      });
    }
  }
  unrolled<M * V>([&](auto i) QFX_INLINE_LAMBDA {
    tile::store<i>(acc + (i / V * kRows * V + i % V) * kColumns, kColumns * V * sizeof(int32_t));
  });
}

enum class Ending { plain, residual, general };

// `rows` rows of sums, from row `first` of the output on.
template <int V, Ending kEnding>
void finish(const Output& out, const Finish<V>& f, int64_t first, int64_t rows, const int32_t* acc) noexcept {
  const Residual share(*out.epilogue);
  for (int64_t row = first; row < first + rows; ++row, acc += kColumns * V) {
    if constexpr (kEnding == Ending::general) {
      finish_general(out, row, acc);
    } else {
      uint8_t* y = static_cast<uint8_t*>(out.y) + row * out.y_row;
      const __m512i c0 = _mm512_load_si512(acc), c1 = V > 1 ? _mm512_load_si512(acc + kColumns) : c0;
      if constexpr (kEnding == Ending::plain) {
        finish_row(f, y, c0, c1, c0, c0);
      } else {
        const uint8_t* residual = out.residual + row * out.residual_row;
        f.full ? finish_row_residual<V, true>(f, share, y, residual, c0, c1, c0, c0)
               : finish_row_residual<V, false>(f, share, y, residual, c0, c1, c0, c0);
      }
    }
  }
}

// `count` blocks from row `first` on.
template <int M, int V, Ending kEnding>
void blocks(const Tile& t, int64_t first, int64_t count, int64_t last_rows) noexcept {
  const Finish<V> f(t.out);
  const int64_t rows = (M - 1) * kRows + last_rows;
  alignas(64) int32_t acc[M * kRows * V * kColumns];
  tile::configure(block_config<M, V>(last_rows));
  for (int64_t end = first + count * rows; first < end; first += rows) {
    accumulate<M, V>(t, t.a + first * t.a_row, acc);
    finish<V, kEnding>(t.out, f, first, rows, acc);
  }
}

// One block of as many tiles as `rows` need.
template <int M, int V, Ending kEnding>
void last_block(const Tile& t, int64_t first, int64_t rows) noexcept {
  if (rows > (M - 1) * kRows) return blocks<M, V, kEnding>(t, first, 1, rows - (M - 1) * kRows);
  if constexpr (M > 1) last_block<M - 1, V, kEnding>(t, first, rows);
}

template <int M, int V, Ending kEnding>
void all_rows(const Tile& t, int64_t rows) noexcept {
  const int64_t whole = rows / (M * kRows) * (M * kRows);
  if (whole > 0) blocks<M, V, kEnding>(t, 0, whole / (M * kRows), kRows);
  if (whole < rows) last_block<M, V, kEnding>(t, whole, rows - whole);
  tile::release();
}

template <int M, int V>
void gemm(const Tile& t, int64_t rows) noexcept {
  const Epilogue& e = *t.out.epilogue;
  if (e.f32_output || !e.bounded || t.out.row_bias != nullptr) return all_rows<M, V, Ending::general>(t, rows);
  if (t.out.residual != nullptr) return all_rows<M, V, Ending::residual>(t, rows);
  all_rows<M, V, Ending::plain>(t, rows);
}

}  // namespace
}  // namespace qfx::gemm

QFX_KERNELS(gemm) {
#undef QFX_IF_amx
#define QFX_IF_amx(...) __VA_ARGS__
#define QFX_GEMM(name, isa, rows, columns, depth, bytes) \
  QFX_IF_##isa(void name(const Tile& t, int64_t count) noexcept { gemm<rows / 16, columns / 16>(t, count); })
#include "gemm/kernels.inc"
}
