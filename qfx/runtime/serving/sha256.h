#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace qfx {

// SHA-256 (FIPS 180-4) of bytes that come a few at a time.
class Sha256 {
 public:
  void add(std::span<const std::byte> bytes) noexcept;
  // Of all that was added, as 64 hexadecimal digits; nothing is added after it.
  std::string hex();

 private:
  void take_block(const std::byte* block) noexcept;

  std::array<uint32_t, 8> state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<std::byte, 64> rest_{};
  uint64_t size_ = 0;
};

}  // namespace qfx
