#include <immintrin.h>

#include <cstring>

#include "move/kernels.h"

namespace qfx::move {
namespace {

// 16x16 bytes: four rounds of interleaving rows i and i + 8 leave row c holding column c.
struct Tile16 {
  __m128i row[16];

  void interleave() noexcept {
    __m128i next[16];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      next[2 * i] = _mm_unpacklo_epi8(row[i], row[i + 8]);
      next[2 * i + 1] = _mm_unpackhi_epi8(row[i], row[i + 8]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) row[i] = next[i];
  }
  void transpose() noexcept {
    interleave();
    interleave();
    interleave();
    interleave();
  }
};

void tile_u8(const uint8_t* x, int64_t x_stride, uint8_t* y, int64_t y_stride) noexcept {
  Tile16 tile;
#pragma GCC unroll 16
  for (int r = 0; r < 16; ++r) tile.row[r] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x + r * x_stride));
  tile.transpose();
#pragma GCC unroll 16
  for (int c = 0; c < 16; ++c) _mm_storeu_si128(reinterpret_cast<__m128i*>(y + c * y_stride), tile.row[c]);
}

// rows, columns <= 16, through a whole tile on the stack.
void part_u8(const uint8_t* x, int64_t x_stride, uint8_t* y, int64_t y_stride, int64_t rows, int64_t columns) noexcept {
  uint8_t from[16][16] = {}, to[16][16];
  for (int64_t r = 0; r < rows; ++r) std::memcpy(from[r], x + r * x_stride, static_cast<size_t>(columns));
  tile_u8(from[0], 16, to[0], 16);
  for (int64_t c = 0; c < columns; ++c) std::memcpy(y + c * y_stride, to[c], static_cast<size_t>(rows));
}

void tile_u32(const uint32_t* x, int64_t x_stride, uint32_t* y, int64_t y_stride) noexcept {
  __m256 a[8], b[8];
#pragma GCC unroll 8
  for (int r = 0; r < 8; ++r) a[r] = _mm256_loadu_ps(reinterpret_cast<const float*>(x + r * x_stride));
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    b[2 * i] = _mm256_unpacklo_ps(a[2 * i], a[2 * i + 1]);
    b[2 * i + 1] = _mm256_unpackhi_ps(a[2 * i], a[2 * i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    a[4 * i] = _mm256_shuffle_ps(b[4 * i], b[4 * i + 2], 0x44);
    a[4 * i + 1] = _mm256_shuffle_ps(b[4 * i], b[4 * i + 2], 0xee);
    a[4 * i + 2] = _mm256_shuffle_ps(b[4 * i + 1], b[4 * i + 3], 0x44);
    a[4 * i + 3] = _mm256_shuffle_ps(b[4 * i + 1], b[4 * i + 3], 0xee);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    _mm256_storeu_ps(reinterpret_cast<float*>(y + i * y_stride), _mm256_permute2f128_ps(a[i], a[i + 4], 0x20));
    _mm256_storeu_ps(reinterpret_cast<float*>(y + (i + 4) * y_stride), _mm256_permute2f128_ps(a[i], a[i + 4], 0x31));
  }
}

// Two rows to pairs: the channel shuffle of two groups.
void interleave_u8(const uint8_t* x, int64_t x_stride, uint8_t* y, int64_t columns) noexcept {
  const uint8_t* z = x + x_stride;
  int64_t c = 0;
  for (; c + 16 <= columns; c += 16) {
    const __m128i a = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x + c));
    const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i*>(z + c));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(y + 2 * c), _mm_unpacklo_epi8(a, b));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(y + 2 * c + 16), _mm_unpackhi_epi8(a, b));
  }
  for (; c < columns; ++c) {
    y[2 * c] = x[c];
    y[2 * c + 1] = z[c];
  }
}

// Column by column, for matrices too narrow for tiles.
void narrow_u8(const uint8_t* x, int64_t x_stride, uint8_t* y, int64_t y_stride, int64_t rows,
               int64_t columns) noexcept {
  for (int64_t c = 0; c < columns; ++c)
    for (int64_t r = 0; r < rows; ++r) y[c * y_stride + r] = x[r * x_stride + c];
}

}  // namespace

void transpose_u8_16x16__avx2(const uint8_t* x, int64_t x_stride, uint8_t* y, int64_t y_stride, int64_t rows,
                              int64_t columns) noexcept {
  if (rows == 2 && y_stride == 2) return interleave_u8(x, x_stride, y, columns);
  if (rows < 4 || columns < 4) return narrow_u8(x, x_stride, y, y_stride, rows, columns);
  for (int64_t r = 0; r < rows; r += 16)
    for (int64_t c = 0; c < columns; c += 16) {
      const uint8_t* from = x + r * x_stride + c;
      uint8_t* to = y + c * y_stride + r;
      if (r + 16 <= rows && c + 16 <= columns) {
        tile_u8(from, x_stride, to, y_stride);
      } else {
        part_u8(from, x_stride, to, y_stride, rows - r < 16 ? rows - r : 16, columns - c < 16 ? columns - c : 16);
      }
    }
}

void transpose_u32_8x8__avx2(const uint32_t* x, int64_t x_stride, uint32_t* y, int64_t y_stride, int64_t rows,
                             int64_t columns) noexcept {
  const int64_t whole_rows = rows / 8 * 8, whole_columns = columns / 8 * 8;
  for (int64_t r = 0; r < whole_rows; r += 8)
    for (int64_t c = 0; c < whole_columns; c += 8)
      tile_u32(x + r * x_stride + c, x_stride, y + c * y_stride + r, y_stride);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = r < whole_rows ? whole_columns : 0; c < columns; ++c) y[c * y_stride + r] = x[r * x_stride + c];
}

}  // namespace qfx::move
