#pragma once
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/split.h"

namespace qfx {

constexpr int kMaxRank = 16;

// A loop nest, outermost dim first, with the element strides of K operands. Plain arrays: run() walks it
// without allocating.
template <int K>
struct Nest {
  int rank = 0;
  int64_t size[kMaxRank] = {};
  int64_t stride[K][kMaxRank] = {};

  int64_t count() const noexcept {
    int64_t n = 1;
    for (int d = 0; d < rank; ++d) n *= size[d];
    return n;
  }

  // Takes the innermost loop off (size 1 and strides 0 when there is none).
  struct Loop {
    int64_t size = 1;
    int64_t stride[K] = {};
  };
  Loop pop() noexcept {
    Loop loop;
    if (rank == 0) return loop;
    --rank;
    loop.size = size[rank];
    for (int k = 0; k < K; ++k) loop.stride[k] = stride[k][rank];
    return loop;
  }
};

// A place in a nest: starts at a flat index and advances one step of the innermost loop at a time.
template <int K>
class Cursor {
 public:
  Cursor(const Nest<K>& nest, int64_t index) noexcept : nest_(nest) {
    for (int d = nest.rank - 1; d >= 0; --d) {
      at_[d] = index % nest.size[d];
      index /= nest.size[d];
      for (int k = 0; k < K; ++k) offset[k] += at_[d] * nest.stride[k][d];
    }
  }

  void advance() noexcept {
    for (int d = nest_.rank - 1; d >= 0; --d) {
      for (int k = 0; k < K; ++k) offset[k] += nest_.stride[k][d];
      if (++at_[d] < nest_.size[d]) return;
      for (int k = 0; k < K; ++k) offset[k] -= nest_.size[d] * nest_.stride[k][d];
      at_[d] = 0;
    }
  }

  int64_t offset[K] = {};

 private:
  const Nest<K>& nest_;
  int64_t at_[kMaxRank] = {};
};

// Drops dims of size 1 and merges neighbours that every operand walks as one. `strides[k]` as long as `shape`.
template <int K>
Nest<K> collapse(const std::vector<int64_t>& shape, const std::vector<int64_t> (&strides)[K]) {
  Nest<K> nest;
  for (size_t d = 0; d < shape.size(); ++d) {
    if (shape[d] == 1) continue;
    bool merges = nest.rank > 0;
    for (int k = 0; k < K && merges; ++k) merges = nest.stride[k][nest.rank - 1] == shape[d] * strides[k][d];
    if (!merges && nest.rank == kMaxRank)
      throw std::invalid_argument("a tensor of more than " + std::to_string(kMaxRank) + " dimensions");
    const int at = merges ? nest.rank - 1 : nest.rank++;
    nest.size[at] = merges ? nest.size[at] * shape[d] : shape[d];
    for (int k = 0; k < K; ++k) nest.stride[k][at] = strides[k][d];
  }
  return nest;
}

// Element strides of a dense row-major tensor.
inline std::vector<int64_t> dense_strides(const std::vector<int64_t>& shape) {
  std::vector<int64_t> strides(shape.size());
  int64_t step = 1;
  for (size_t d = shape.size(); d-- > 0;) {
    strides[d] = step;
    step *= shape[d];
  }
  return strides;
}

// The number of elements. Throws std::invalid_argument for a negative size.
inline int64_t element_count(const std::vector<int64_t>& shape) {
  int64_t n = 1;
  for (int64_t size : shape) {
    if (size < 0) throw std::invalid_argument("a negative dimension");
    n *= size;
  }
  return n;
}

// Cuts a range of a [rows][width] space at the row ends: body(row, first column, columns).
template <class Body>
void for_each_row(Range range, int64_t width, Body&& body) noexcept {
  if (range.begin >= range.end) return;
  int64_t row = range.begin / width, column = range.begin - row * width;
  for (int64_t rest = range.end - range.begin; rest > 0; ++row, column = 0) {
    const int64_t n = width - column < rest ? width - column : rest;
    body(row, column, n);
    rest -= n;
  }
}

// The same with the nest's offsets: body(offsets of the K operands, row, first column, columns).
template <int K, class Body>
void for_each_row(Range range, const Nest<K>& rows, int64_t width, Body&& body) noexcept {
  if (range.begin >= range.end) return;
  Cursor<K> cursor(rows, range.begin / width);
  int64_t current = range.begin / width;
  for_each_row(range, width, [&](int64_t row, int64_t column, int64_t n) {
    if (row != current) cursor.advance();
    current = row;
    body(cursor.offset, row, column, n);
  });
}

}  // namespace qfx
