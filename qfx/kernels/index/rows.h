#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

#include "core/half.h"
#include "core/nibbles.h"

namespace qfx {

// Rows that indices take: f32, what 16 bits stand for, or codes as float(code - zero point) * scale, in float32, each
// operation rounded.
struct RowTable {
  int64_t rows = 0, features = 0;
  const float* floats = nullptr;     // [rows][features], or null ...
  const uint16_t* halves = nullptr;  // ... for float16, or bfloat16 ...
  bool brain = false;
  const std::byte* codes = nullptr;      // ... or for these, signed; of 4 bits two a byte, the first in the low half
  int bits = 8;                          // or 4
  int64_t group = 0;                     // features that share a scale; divides them
  int64_t row_scales = 0;                // scales of a row, or 0: one for the table
  std::span<const float> scale;          // a group, or
  std::span<const uint16_t> half_scale;  // the same in float16
  std::span<const int32_t> zero_point;   // a group, or
  std::span<const std::byte> code_zero;  // the same, stored as codes are; or none: all 0

  bool holds(int64_t row) const noexcept { return row >= 0 && row < rows; }
  const char* name() const noexcept {
    if (floats != nullptr) return "rows of f32";
    if (halves != nullptr) return brain ? "rows of bf16" : "rows of f16";
    return bits == 8 ? "rows of s8" : "rows of s4";
  }

  const std::byte* elements() const noexcept {
    if (codes != nullptr) return codes;
    return reinterpret_cast<const std::byte*>(floats != nullptr ? static_cast<const void*>(floats) : halves);
  }
  // Features side by side whose elements stand for numbers in one way.
  int64_t span() const noexcept { return codes == nullptr ? features : group; }
  float scale_at(int64_t at) const noexcept {
    const auto place = static_cast<size_t>(at);
    return half_scale.empty() ? scale[place] : float_of_half(half_scale[place]);
  }
  int zero_at(int64_t at) const noexcept {
    if (!zero_point.empty()) return zero_point[static_cast<size_t>(at)];
    if (code_zero.empty()) return 0;
    return bits == 8 ? static_cast<int8_t>(code_zero[static_cast<size_t>(at)]) : nibble_at(code_zero.data(), at);
  }

  // put(feature, value) for each of a row that the table holds.
  template <class Put>
  void each(int64_t row, const Put& put) const noexcept {
    const int64_t first = row * features;
    if (floats != nullptr) {
      for (int64_t i = 0; i < features; ++i) put(i, floats[first + i]);
    } else if (halves != nullptr && brain) {
      for (int64_t i = 0; i < features; ++i) put(i, float_of_brain(halves[first + i]));
    } else if (halves != nullptr) {
      for (int64_t i = 0; i < features; ++i) put(i, float_of_half(halves[first + i]));
    } else {
      int64_t at = row * row_scales;
      for (int64_t i = 0; i < features; i += group, ++at) decode(first, i, at, put);
    }
  }

 private:
  // The group of codes that begins at feature `begin` of the row at code `first`, by the scale at `at`.
  template <class Put>
  void decode(int64_t first, int64_t begin, int64_t at, const Put& put) const noexcept {
    const float by = scale_at(at);
    const int zero = zero_at(at);
    const int64_t end = begin + group;
    if (bits == 8) {
      const auto* row = reinterpret_cast<const int8_t*>(codes) + first;
      for (int64_t i = begin; i < end; ++i) put(i, static_cast<float>(row[i] - zero) * by);
      return;
    }
    const auto nibble = [&](int64_t i) { put(i, static_cast<float>(nibble_at(codes, first + i) - zero) * by); };
    int64_t i = begin;
    if ((first + i) % 2 != 0) nibble(i++);  // what begins within a byte
    for (; i + 1 < end; i += 2) {
      const std::byte* both = codes + (first + i) / 2;
      put(i, static_cast<float>(nibble_at(both, 0) - zero) * by);
      put(i + 1, static_cast<float>(nibble_at(both, 1) - zero) * by);
    }
    if (i < end) nibble(i);
  }
};

}  // namespace qfx
