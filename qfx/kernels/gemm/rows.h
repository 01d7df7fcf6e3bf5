#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>

namespace qfx::gemm {

// The sum of n codes, modulo 2^32. Eight bytes at a time, as four sums of 16 bits that are emptied before they are
// full.
inline int32_t sum_of(const uint8_t* x, int64_t n) noexcept {
  constexpr uint64_t kLow = 0x00ff00ff00ff00ff;
  uint32_t total = 0;
  int64_t i = 0;
  while (i + 8 <= n) {
    uint64_t sums = 0;
    for (int64_t end = std::min(n - 7, i + 8 * 128); i < end; i += 8) {
      uint64_t eight;
      std::memcpy(&eight, x + i, sizeof eight);
      sums += (eight & kLow) + (eight >> 8 & kLow);
    }
    for (; sums != 0; sums >>= 16) total += static_cast<uint32_t>(sums & 0xffff);
  }
  for (; i < n; ++i) total += x[i];
  return static_cast<int32_t>(total);
}

// As kernels of words read them.
inline void widen(const uint8_t* x, int64_t n, int16_t* to) noexcept {
  for (int64_t i = 0; i < n; ++i) to[i] = x[i];
}

}  // namespace qfx::gemm
