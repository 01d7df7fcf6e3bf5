#pragma once
#include <cmath>
#include <cstdint>

namespace qfx {

// The one definition of requantization; every vector kernel equals it bit for bit.
//   q = clamp(rint(v) + zero_point, lo, hi),  round half to even, v in float32.
// |v| is clamped first so that the conversion to integer is always defined.
inline uint8_t requantize(float v, int32_t zero_point, int32_t lo, int32_t hi) noexcept {
  v = v < -65536.0f ? -65536.0f : (v > 65536.0f ? 65536.0f : v);
  const int32_t q = static_cast<int32_t>(std::nearbyintf(v)) + zero_point;
  return static_cast<uint8_t>(q < lo ? lo : (q > hi ? hi : q));
}

}  // namespace qfx
