#pragma once
// Tiles of up to eight rows by eight columns, for the gemm files of the ARM levels only.
#include "gemm/finish__neon.h"
#include "gemm/tile.h"

namespace qfx::gemm {
namespace {

// Level::tile<R>(t, first): R rows from row `first` on.
template <class Level, int R>
void tile_of(const Tile& t, int64_t size, int64_t first) noexcept {
  if (size == R) return Level::template tile<R>(t, first);
  if constexpr (R > 1) tile_of<Level, R - 1>(t, size, first);
}

// `rows` in the fewest tiles, whose sizes differ by one at most.
template <class Level, int R>
void gemm(const Tile& t, int64_t rows) noexcept {
  const int64_t count = (rows + R - 1) / R;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t first = rows * i / count;
    tile_of<Level, R>(t, rows * (i + 1) / count - first, first);
  }
}

}  // namespace
}  // namespace qfx::gemm
