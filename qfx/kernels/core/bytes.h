#pragma once
#include <cstdint>
#include <cstring>

namespace qfx {

// memcpy for the short runs of channels that layouts move: no call below 256 bytes.
inline void copy_bytes(void* to, const void* from, int64_t n) noexcept {
  auto* y = static_cast<uint8_t*>(to);
  auto* x = static_cast<const uint8_t*>(from);
  if (n >= 256) {
    std::memcpy(y, x, static_cast<size_t>(n));
  } else if (n >= 16) {
    for (int64_t i = 0; i + 16 < n; i += 16) std::memcpy(y + i, x + i, 16);
    std::memcpy(y + n - 16, x + n - 16, 16);
  } else if (n >= 8) {
    std::memcpy(y, x, 8);
    std::memcpy(y + n - 8, x + n - 8, 8);
  } else if (n >= 4) {
    std::memcpy(y, x, 4);
    std::memcpy(y + n - 4, x + n - 4, 4);
  } else {
    for (int64_t i = 0; i < n; ++i) y[i] = x[i];
  }
}

}  // namespace qfx
