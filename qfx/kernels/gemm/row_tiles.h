#pragma once
// For the files of one level: internal linkage, as in finish__avx2.h.
#include <cstdint>
#include <type_traits>

namespace qfx::gemm {
namespace {

template <int R, class Tile>
void tiles_of(int64_t size, int64_t first, int64_t count, Tile&& tile) noexcept {
  if (size == R) {
    for (; count > 0; --count, first += R) tile(std::integral_constant<int, R>(), first);
  } else if constexpr (R > 1) {
    tiles_of<R - 1>(size, first, count, tile);
  }
}

// `rows` in the fewest tiles of at most R, whose sizes differ by one at most: tile(its size as a constant, first row).
template <int R, class Tile>
void in_tiles(int64_t rows, Tile&& tile) noexcept {
  const int64_t count = (rows + R - 1) / R;
  const int64_t size = rows / count, larger = rows % count;
  if (larger > 0) tiles_of<R>(size + 1, 0, larger, tile);
  tiles_of<R>(size, larger * (size + 1), count - larger, tile);
}

}  // namespace
}  // namespace qfx::gemm
