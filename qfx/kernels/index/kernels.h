#pragma once
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "core/kernel.h"

namespace qfx::index {

// What rows become one after the other: y + row, y + row * factor, or row where that is larger than y.
enum class Fold { sum, weighted, max };

constexpr int64_t kAhead = 6;  // rows that are asked for before they are taken

// Some rows of a bag, or as many features of each that share a scale.
struct BagPart {
  Fold fold;
  bool fresh;              // whether y holds nothing yet: sums begin with 0, a maximum with the first row
  const std::byte* table;  // elements side by side; of 4 bits two a byte, the first in the low half
  const int64_t* first;    // of each row, and of kAhead that come next, the element at which it begins
  const float* factor;     // of each row, for a weighted sum
  const float* scale;      // of each row of codes, which stand for (code - zero) * scale
  const int32_t* zero;
  int64_t rows;  // at least 1
  int64_t features;
};

// By the form of the elements. Each operation is rounded on its own. Of nibbles, vectors want rows that begin with a
// byte and an even number of features.
struct BagFloats {
  using Fn = void(const BagPart& part, float* y) noexcept;
};
struct BagHalves : BagFloats {};
struct BagBrains : BagFloats {};
struct BagBytes : BagFloats {};
struct BagNibbles : BagFloats {};

#define QFX_KERNEL_LIST "index/kernels.inc"
#include "core/family.h"

}  // namespace qfx::index
