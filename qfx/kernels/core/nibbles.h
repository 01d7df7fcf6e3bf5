#pragma once
#include <cstddef>
#include <cstdint>

namespace qfx {

inline constexpr int kNibbleOrigin = 8;  // how many codes of 4 bits are under 0

// Code i of signed codes of 4 bits, which lie two a byte, the first in the low half.
inline int nibble_at(const std::byte* codes, int64_t i) noexcept {
  const int half = std::to_integer<int>(codes[i / 2]) >> (i % 2 * 4) & 15;
  return (half ^ kNibbleOrigin) - kNibbleOrigin;
}

}  // namespace qfx
