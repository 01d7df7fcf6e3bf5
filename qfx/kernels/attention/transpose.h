#pragma once
// Matrices of floats turned by blocks of four, on vectors that every level with vectors has.
#include <cstdint>
#include <cstring>

namespace qfx::attention {
namespace {

typedef float Four __attribute__((vector_size(16)));
typedef int32_t FourInts __attribute__((vector_size(16)));

#if defined(__clang__)
#define QFX_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define QFX_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, FourInts{__VA_ARGS__})
#endif

template <class V>
inline void turn(V (&rows)[4]) noexcept {
  const V a = QFX_SHUFFLE(rows[0], rows[1], 0, 4, 1, 5), b = QFX_SHUFFLE(rows[2], rows[3], 0, 4, 1, 5);
  const V c = QFX_SHUFFLE(rows[0], rows[1], 2, 6, 3, 7), d = QFX_SHUFFLE(rows[2], rows[3], 2, 6, 3, 7);
  rows[0] = QFX_SHUFFLE(a, b, 0, 1, 4, 5);
  rows[1] = QFX_SHUFFLE(a, b, 2, 3, 6, 7);
  rows[2] = QFX_SHUFFLE(c, d, 0, 1, 4, 5);
  rows[3] = QFX_SHUFFLE(c, d, 2, 3, 6, 7);
}

#undef QFX_SHUFFLE

// to[c][r] = from[r][c], whose rows are so many floats apart.
inline void transpose(const float* from, int64_t from_row, int64_t rows, int64_t columns, float* to,
                      int64_t to_row) noexcept {
  for (int64_t r = 0; r < rows; r += 4)
    for (int64_t c = 0; c < columns; c += 4) {
      const float* block = from + r * from_row + c;
      float* turned = to + c * to_row + r;
      if (r + 4 <= rows && c + 4 <= columns) {
        Four four[4];
        for (int64_t i = 0; i < 4; ++i) std::memcpy(&four[i], block + i * from_row, sizeof(Four));
        turn(four);
        for (int64_t i = 0; i < 4; ++i) std::memcpy(turned + i * to_row, &four[i], sizeof(Four));
        continue;
      }
      for (int64_t i = 0; i < 4 && r + i < rows; ++i)
        for (int64_t k = 0; k < 4 && c + k < columns; ++k) turned[k * to_row + i] = block[i * from_row + k];
    }
}

}  // namespace
}  // namespace qfx::attention
