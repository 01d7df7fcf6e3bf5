#include <arm_neon.h>

#include <cstring>

#include "move/kernels.h"

namespace qfx::move {
namespace {

// 16x16 bytes: four rounds of interleaving rows i and i + 8 leave row c holding column c.
struct Tile16 {
  uint8x16_t row[16];

  void interleave() noexcept {
    uint8x16_t next[16];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      next[2 * i] = vzip1q_u8(row[i], row[i + 8]);
      next[2 * i + 1] = vzip2q_u8(row[i], row[i + 8]);
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
  for (int r = 0; r < 16; ++r) tile.row[r] = vld1q_u8(x + r * x_stride);
  tile.transpose();
#pragma GCC unroll 16
  for (int c = 0; c < 16; ++c) vst1q_u8(y + c * y_stride, tile.row[c]);
}

// rows, columns <= 16, through a whole tile on the stack.
void part_u8(const uint8_t* x, int64_t x_stride, uint8_t* y, int64_t y_stride, int64_t rows, int64_t columns) noexcept {
  uint8_t from[16][16] = {}, to[16][16];
  for (int64_t r = 0; r < rows; ++r) std::memcpy(from[r], x + r * x_stride, static_cast<size_t>(columns));
  tile_u8(from[0], 16, to[0], 16);
  for (int64_t c = 0; c < columns; ++c) std::memcpy(y + c * y_stride, to[c], static_cast<size_t>(rows));
}

// 4x4 words: pairs within two rows, then pairs of those.
void tile_u32(const uint32_t* x, int64_t x_stride, uint32_t* y, int64_t y_stride) noexcept {
  const uint32x4_t r0 = vld1q_u32(x), r1 = vld1q_u32(x + x_stride);
  const uint32x4_t r2 = vld1q_u32(x + 2 * x_stride), r3 = vld1q_u32(x + 3 * x_stride);
  const uint64x2_t even01 = vreinterpretq_u64_u32(vtrn1q_u32(r0, r1)),
                   odd01 = vreinterpretq_u64_u32(vtrn2q_u32(r0, r1));
  const uint64x2_t even23 = vreinterpretq_u64_u32(vtrn1q_u32(r2, r3)),
                   odd23 = vreinterpretq_u64_u32(vtrn2q_u32(r2, r3));
  vst1q_u32(y, vreinterpretq_u32_u64(vzip1q_u64(even01, even23)));
  vst1q_u32(y + y_stride, vreinterpretq_u32_u64(vzip1q_u64(odd01, odd23)));
  vst1q_u32(y + 2 * y_stride, vreinterpretq_u32_u64(vzip2q_u64(even01, even23)));
  vst1q_u32(y + 3 * y_stride, vreinterpretq_u32_u64(vzip2q_u64(odd01, odd23)));
}

// Two rows to pairs: the channel shuffle of two groups.
void interleave_u8(const uint8_t* x, int64_t x_stride, uint8_t* y, int64_t columns) noexcept {
  const uint8_t* z = x + x_stride;
  int64_t c = 0;
  for (; c + 16 <= columns; c += 16) vst2q_u8(y + 2 * c, {{vld1q_u8(x + c), vld1q_u8(z + c)}});
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

void transpose_u8_16x16__neon(const uint8_t* x, int64_t x_stride, uint8_t* y, int64_t y_stride, int64_t rows,
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

void transpose_u32_4x4__neon(const uint32_t* x, int64_t x_stride, uint32_t* y, int64_t y_stride, int64_t rows,
                             int64_t columns) noexcept {
  const int64_t whole_rows = rows / 4 * 4, whole_columns = columns / 4 * 4;
  for (int64_t r = 0; r < whole_rows; r += 4)
    for (int64_t c = 0; c < whole_columns; c += 4)
      tile_u32(x + r * x_stride + c, x_stride, y + c * y_stride + r, y_stride);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = r < whole_rows ? whole_columns : 0; c < columns; ++c) y[c * y_stride + r] = x[r * x_stride + c];
}

}  // namespace qfx::move
