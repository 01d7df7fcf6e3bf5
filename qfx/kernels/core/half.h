#pragma once
#include <bit>
#include <cstdint>

namespace qfx {

// IEEE binary16 to float32, exact; infinities and NaNs included. Without branches, so that loops become vectors.
inline float float_of_half(uint16_t half) noexcept {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16, magnitude = half & 0x7fffu;
  const uint32_t rebias = magnitude >= 0x7c00 ? 0x70000000u : 0x38000000u;
  const uint32_t normal = (magnitude << 13) + rebias;
  const auto subnormal = std::bit_cast<uint32_t>(static_cast<float>(static_cast<int32_t>(magnitude)) * 0x1p-24f);
  return std::bit_cast<float>(sign | (magnitude >= 0x0400 ? normal : subnormal));
}

// bfloat16, which are the upper halves of float32.
inline float float_of_brain(uint16_t upper) noexcept {
  return std::bit_cast<float>(static_cast<uint32_t>(upper) << 16);
}

}  // namespace qfx
