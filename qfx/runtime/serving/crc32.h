#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

namespace qfx {

// The CRC-32 of zip, gzip and PNG (polynomial 0xEDB88320 reflected) of `bytes`; `before` is that of what lies in front
// of them.
uint32_t crc32(std::span<const std::byte> bytes, uint32_t before = 0) noexcept;

}  // namespace qfx
