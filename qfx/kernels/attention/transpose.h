#pragma once
// Matrices of floats turned by blocks of four, on vectors that every level with vectors has.
#include <cstdint>
#include <cstring>
#include <utility>

#include "core/lanes.h"
#include "core/shuffle.h"

namespace qfx::attention {
namespace {

typedef float Four __attribute__((vector_size(16)));
typedef int32_t FourInts __attribute__((vector_size(16)));

// In every four lanes, those that are named: 0 to 3 of `a`, 4 to 7 of `b`.
template <int... kNamed, class V, size_t... kLane>
inline V picked(V a, V b, std::index_sequence<kLane...>) noexcept {
  constexpr auto from = [](int lane) {
    constexpr int kFrom[] = {kNamed...}, kLanes = sizeof...(kLane);
    return kFrom[lane % 4] / 4 * kLanes + kFrom[lane % 4] % 4 + lane / 4 * 4;
  };
#if defined(__clang__)
  return __builtin_shufflevector(a, b, from(kLane)...);
#else
  return shuffled(a, b, Ints<V>{from(kLane)...});
#endif
}
template <int... kNamed, class V>
inline V picked(V a, V b) noexcept {
  return picked<kNamed...>(a, b, std::make_index_sequence<sizeof(V) / sizeof(float)>());
}

// rows[r][c] becomes rows[c][r], in every four lanes.
template <class V>
inline void turn(V (&rows)[4]) noexcept {
  const V a = picked<0, 4, 1, 5>(rows[0], rows[1]), b = picked<0, 4, 1, 5>(rows[2], rows[3]);
  const V c = picked<2, 6, 3, 7>(rows[0], rows[1]), d = picked<2, 6, 3, 7>(rows[2], rows[3]);
  rows[0] = picked<0, 1, 4, 5>(a, b);
  rows[1] = picked<2, 3, 6, 7>(a, b);
  rows[2] = picked<0, 1, 4, 5>(c, d);
  rows[3] = picked<2, 3, 6, 7>(c, d);
}

// Columns [0, 4) of as many rows as there are lanes, one column a vector.
template <class V>
inline void load_columns(const float* from, int64_t row, V (&columns)[4]) noexcept {
  for (int64_t i = 0; i < 4; ++i) columns[i] = load_quads<V>(from + i * row, 4 * row);
  turn(columns);
}
template <class V>
inline void store_columns(float* to, int64_t row, V (&columns)[4]) noexcept {
  turn(columns);
  for (int64_t i = 0; i < 4; ++i) store_quads(to + i * row, 4 * row, columns[i]);
}

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
