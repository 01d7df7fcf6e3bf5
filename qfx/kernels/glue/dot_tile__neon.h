#pragma once
// Dot products of two rows by four outputs, for the files of the ARM levels only.
#include <arm_neon.h>

#include "glue/kernels.h"

namespace qfx::glue {
namespace {

inline int64_t at_most(int64_t i, int64_t last) noexcept {
  return i < last ? i : last;
}

// Rows and outputs past the last are computed from the last and not stored. A level reads kDepth codes and weights at
// a time and adds their products to four sums; the end of k is summed one by one.
template <class Level>
void dot_tile(const DotBlock& b, int64_t r, int64_t o) noexcept {
  const uint8_t* x[2];
  const int8_t* w[4];
  for (int64_t p = 0; p < 2; ++p) x[p] = b.x + at_most(r + p, b.rows - 1) * b.x_stride;
  for (int64_t q = 0; q < 4; ++q) w[q] = b.w + at_most(o + q, b.outputs - 1) * b.w_stride;
  int32x4_t acc[2][4];
  for (auto& row : acc)
    for (int32x4_t& sum : row) sum = vdupq_n_s32(0);
  int64_t i = 0;
  for (; i + Level::kDepth <= b.k; i += Level::kDepth) {
    const auto u0 = Level::codes(x[0] + i), u1 = Level::codes(x[1] + i);
#pragma GCC unroll 4
    for (int q = 0; q < 4; ++q) {
      const auto v = Level::weights(w[q] + i);
      acc[0][q] = Level::add(acc[0][q], u0, v);
      acc[1][q] = Level::add(acc[1][q], u1, v);
    }
  }
  for (int64_t p = 0; p < at_most(b.rows - r, 2); ++p)
    for (int64_t q = 0; q < at_most(b.outputs - o, 4); ++q) {
      int32_t total = vaddvq_s32(acc[p][q]);
      for (int64_t t = i; t < b.k; ++t) total += x[p][t] * w[q][t];
      b.acc[(r + p) * b.acc_stride + o + q] = total;
    }
}

template <class Level>
void dot(const DotBlock& block) noexcept {
  for (int64_t o = 0; o < block.outputs; o += 4)
    for (int64_t r = 0; r < block.rows; r += 2) dot_tile<Level>(block, r, o);
}

}  // namespace
}  // namespace qfx::glue
