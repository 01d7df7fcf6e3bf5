#pragma once
#include <algorithm>

#include "gemm/in_order.h"

namespace qfx::gemm {

constexpr int64_t kChunk = 64;     // steps whose weights are decoded once for many rows
constexpr int64_t kManyRows = 12;  // from here on it is faster

// For files of one instruction set, which have `Weights`, a vector's weights step by step, and `Products`:
//   weights.begin_group(g); weights.store(step, to)
//   Products::add<R, V>(w, steps, x, x_row, y, y_row) adds the products of some steps to R rows of y by V vectors, with
//   the weights [step][V][kHalfLanes]

// Decoded weights of some steps: [step][V][kHalfLanes].
template <class Weights, int V>
void decode(const InOrderPanel& p, int v, int64_t first, int64_t last, float* to) noexcept {
  for (int c = 0; c < V; ++c) {
    Weights weights(p, v + c);
    for (int64_t i = first; i < last;) {
      weights.begin_group(i / p.group);
      for (const int64_t end = std::min(last, (i / p.group + 1) * p.group); i < end; ++i)
        weights.store(i, to + ((i - first) * V + c) * kHalfLanes);
    }
  }
}

template <class Products, int V>
void add_products(const float* w, int64_t steps, const float* x, int64_t x_row, int64_t rows, float* y,
                  int64_t y_row) noexcept {
  int64_t r = 0;
  for (; r + 6 <= rows; r += 6) Products::template add<6, V>(w, steps, x + r * x_row, x_row, y + r * y_row, y_row);
  for (; r + 2 <= rows; r += 2) Products::template add<2, V>(w, steps, x + r * x_row, x_row, y + r * y_row, y_row);
  if (r < rows) Products::template add<1, V>(w, steps, x + r * x_row, x_row, y + r * y_row, y_row);
}

// V vectors of columns, from vector v on. Sums stay in y from chunk to chunk, so each is added in the order of the
// steps.
template <class Weights, class Products, int V>
void by_chunks(const InOrderPanel& p, int v, const float* x, int64_t x_row, int64_t rows, float* y,
               int64_t y_row) noexcept {
  constexpr int64_t columns = V * kHalfLanes;
  alignas(64) float weights[kChunk * columns];
  y += v * kHalfLanes;
  for (int64_t r = 0; r < rows; ++r) std::fill_n(y + r * y_row, columns, 0.0f);
  for (int64_t i = 0; i < p.steps; i += kChunk) {
    const int64_t last = std::min(i + kChunk, p.steps);
    decode<Weights, V>(p, v, i, last, weights);
    add_products<Products, V>(weights, last - i, x + i, x_row, rows, y, y_row);
  }
  const float* bias = p.bias + v * kHalfLanes;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t o = 0; o < columns; ++o) y[r * y_row + o] += bias[o];
}

}  // namespace qfx::gemm
