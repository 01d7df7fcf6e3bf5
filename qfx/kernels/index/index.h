#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/work.h"

namespace qfx {

// Rows that indices take: f32, or codes as float(code - zero point) * scale, in float32, each operation rounded.
struct RowTable {
  int64_t rows = 0, features = 0;
  const float* floats = nullptr;         // [rows][features], or null ...
  const std::byte* codes = nullptr;      // ... for these, signed; of 4 bits two a byte, the first in the low half
  int bits = 8;                          // or 4
  int64_t group = 0;                     // features that share a scale; divides them
  int64_t row_scales = 0;                // scales of a row, or 0: one for the table
  std::span<const float> scale;          // a group, or
  std::span<const uint16_t> half_scale;  // the same in float16
  std::span<const int32_t> zero_point;   // a group, or
  std::span<const std::byte> code_zero;  // the same, stored as codes are; or none: all 0
};

// Integers [count] to f32 [count][features]. Of an index outside of the table, the row is 0 and the work refuses.
template <class T>
std::unique_ptr<Work> plan_embedding(const RowTable& table, int64_t count);

// Elements of 1, 4 or 8 bytes that s64 indices take along one dim.
struct GatherShape {
  int64_t element = 0;
  std::vector<int64_t> x, index;  // of one rank; beside the axis no dim of the index is longer
  size_t axis = 0;
};

// The element of in[0] at the place of each index of in[1], along the axis where the index says. Of an index that is
// not in the dim, the element is 0 and the work refuses.
std::unique_ptr<Work> plan_gather(const GatherShape& shape);

// Parts of a tensor that s64 indices of its first dims take, one index a dim: each a run of `bytes` bytes.
struct TakeShape {
  std::vector<int64_t> dims;                // the first dims of the tensor, three at most
  std::vector<std::vector<int64_t>> index;  // the shape of the index of each, of one rank; they broadcast
  int64_t bytes = 0;
};

// The part of in[0] at the indices in[1..]; those from -size to -1 count from the end. Of an index that is not in its
// dim, the part is 0 and the work refuses.
std::unique_ptr<Work> plan_take(const TakeShape& shape);

}  // namespace qfx
