#pragma once
// Products of two rows with one vector of weights, for the files of the ARM levels only.
#include <arm_neon.h>

#include "recurrent/cell.h"

namespace qfx::recurrent {
namespace {

typedef float Floats __attribute__((vector_size(16)));
typedef uint32_t Words __attribute__((vector_size(16)));

inline const uint32_t* words(const uint8_t* x) noexcept {
  return reinterpret_cast<const uint32_t*>(x);
}

// Level adds a step's products of four codes with the weights of four outputs.
template <class Level, int R>
void tile(const Panel& p, const uint8_t* x, int64_t x_stride, int v, int32_t* acc) noexcept {
  typename Level::Sums sum[R][4];
  const auto* w = reinterpret_cast<const int8_t*>(p.weight) + v * kLanes * kDepth;
  for (int64_t step = 0; step < p.steps; ++step, x += kDepth, w += p.vectors * kLanes * kDepth)
#pragma GCC unroll 4
    for (int q = 0; q < 4; ++q)
      for (int r = 0; r < R; ++r) Level::add(sum[r][q], x + r * x_stride, w + 16 * q);
  for (int r = 0; r < R; ++r)
    for (int q = 0; q < 4; ++q) vst1q_s32(acc + (r * p.vectors + v) * kLanes + 4 * q, Level::total(sum[r][q]));
}

template <class Level>
void multiply(const Panel& panel, const Codes& codes, int64_t rows, float* y, int64_t y_stride) noexcept {
  alignas(16) int32_t acc[2 * kVectors * kLanes];
  for (int64_t r = 0; r < rows; r += 2) {
    const int64_t n = rows - r < 2 ? 1 : 2;
    Codes two = codes;
    two.x += r * codes.stride;
    if (codes.sum != nullptr) two.sum += r;
    for (int v = 0; v < panel.vectors; ++v) {
      if (n == 2)
        tile<Level, 2>(panel, two.x, codes.stride, v, acc);
      else
        tile<Level, 1>(panel, two.x, codes.stride, v, acc);
    }
    finish<Floats, Words>(panel, two, n, acc, y + r * y_stride, y_stride);
  }
}

}  // namespace
}  // namespace qfx::recurrent
