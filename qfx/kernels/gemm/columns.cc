#include "gemm/columns.h"

#include <algorithm>

namespace qfx::gemm {
namespace {

// One step of `count` columns, of which k has `depth` elements left at least: columns side by side in memory.
template <class T, int D>
void step_of_rows(const uint8_t* y, int64_t row, int64_t count, int32_t zero_point, T* __restrict to,
                  int32_t* __restrict sums) noexcept {
  for (int64_t c = 0; c < count; ++c) {
    int32_t sum = 0;
    for (int d = 0; d < D; ++d) {
      const int32_t w = y[d * row + c] - zero_point;
      to[c * D + d] = static_cast<T>(w);
      sum += w;
    }
    sums[c] += sum;
  }
}

// The same for columns along which memory runs.
template <class T, int D>
void step_of_columns(const uint8_t* y, int64_t col, int64_t count, int32_t zero_point, T* __restrict to,
                     int32_t* __restrict sums) noexcept {
  for (int64_t c = 0; c < count; ++c, y += col, to += D) {
    int32_t sum = 0;
    for (int d = 0; d < D; ++d) {
      const int32_t w = y[d] - zero_point;
      to[d] = static_cast<T>(w);
      sum += w;
    }
    sums[c] += sum;
  }
}

template <class T, int D>
void pack(int64_t kernel_columns, const CodeColumns& from, int64_t steps, int32_t zero_point, T* to,
          int32_t* sums) noexcept {
  const int64_t width = kernel_columns * D, whole = from.k / D;
  std::fill_n(sums, kernel_columns, 0);
  for (int64_t s = 0; s < whole; ++s, to += width) {
    const uint8_t* y = from.y + s * D * from.row;
    if (from.row == 1) {
      step_of_columns<T, D>(y, from.col, from.columns, zero_point, to, sums);
    } else if (from.col == 1) {
      step_of_rows<T, D>(y, from.row, from.columns, zero_point, to, sums);
    } else {
      for (int64_t c = 0; c < from.columns; ++c) {
        step_of_rows<T, D>(y + c * from.col, from.row, 1, zero_point, to + c * D, sums + c);
      }
    }
    std::fill(to + from.columns * D, to + width, T{0});
  }
  std::fill_n(to, (steps - whole) * width, T{0});
  for (int64_t i = whole * D; i < from.k; ++i) {
    for (int64_t c = 0; c < from.columns; ++c) {
      const int32_t w = from.y[i * from.row + c * from.col] - zero_point;
      to[c * D + i - whole * D] = static_cast<T>(w);
      sums[c] += w;
    }
  }
}

}  // namespace

void pack_columns(const TileKernel& kernel, const CodeColumns& from, int64_t steps, int32_t zero_point, std::byte* to,
                  int32_t* sums) noexcept {
  if (kernel.bytes == 1) {
    auto* bytes = reinterpret_cast<int8_t*>(to);
    if (kernel.depth == 4) return pack<int8_t, 4>(kernel.columns, from, steps, 128, bytes, sums);
    return pack<int8_t, 8>(kernel.columns, from, steps, 128, bytes, sums);
  }
  auto* words = reinterpret_cast<int16_t*>(to);
  if (kernel.depth == 2) return pack<int16_t, 2>(kernel.columns, from, steps, zero_point, words, sums);
  pack<int16_t, 1>(kernel.columns, from, steps, zero_point, words, sums);
}

}  // namespace qfx::gemm
