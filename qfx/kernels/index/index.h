#pragma once
#include <cstdint>
#include <memory>
#include <span>

#include "core/work.h"

namespace qfx {

// Rows that indices take: f32, or s8 as (code - zero point) * scale, in float32, each operation rounded.
struct RowTable {
  int64_t rows = 0, features = 0;
  const float* floats = nullptr;        // [rows][features], or null ...
  const int8_t* codes = nullptr;        // ... for these
  std::span<const float> scale;         // a row, or one
  std::span<const int32_t> zero_point;  // likewise, or none: 0
};

// Integers [count] to f32 [count][features]. Of an index outside of the table, the row is 0 and the work refuses.
template <class T>
std::unique_ptr<Work> plan_embedding(const RowTable& table, int64_t count);

// Integers to the nearest f32, halves to even.
template <class T>
std::unique_ptr<Work> plan_to_f32(int64_t count);

}  // namespace qfx
