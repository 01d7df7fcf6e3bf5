#include "runtime/serving/crc32.h"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace qfx {
namespace {

constexpr uint32_t kPolynomial = 0xEDB88320;
constexpr size_t kSlices = 16;
using Tables = std::array<std::array<uint32_t, 256>, kSlices>;

// tables[k][b]: the register after byte b and k zero bytes.
constexpr Tables make_tables() {
  Tables tables{};
  for (uint32_t b = 0; b < 256; ++b) {
    uint32_t crc = b;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? kPolynomial : 0);
    tables[0][b] = crc;
  }
  for (size_t k = 1; k < kSlices; ++k) {
    for (size_t b = 0; b < 256; ++b) tables[k][b] = (tables[k - 1][b] >> 8) ^ tables[0][tables[k - 1][b] & 0xFF];
  }
  return tables;
}
constexpr Tables kTables = make_tables();

uint32_t by_tables(const std::byte* data, size_t size, uint32_t crc) noexcept {
  for (; size >= kSlices; data += kSlices, size -= kSlices) {
    std::array<uint8_t, kSlices> block;
    std::memcpy(block.data(), data, kSlices);
    for (size_t i = 0; i < 4; ++i) block[i] ^= static_cast<uint8_t>(crc >> (8 * i));
    crc = 0;
    for (size_t i = 0; i < kSlices; ++i) crc ^= kTables[kSlices - 1 - i][block[i]];
  }
  for (; size > 0; ++data, --size) crc = (crc >> 8) ^ kTables[0][(crc ^ static_cast<uint8_t>(*data)) & 0xFF];
  return crc;
}

#if defined(__x86_64__)

// Products of polynomials fold 64 bytes onto the next 64: Gopal et al., "Fast CRC Computation for Generic Polynomials
// Using PCLMULQDQ", Intel 2009. x^n mod P, reflected, is what a lane is multiplied by to move it n bits on.
struct Fold {
  uint64_t low, high;
};
constexpr Fold kBy512{0x0154442bd4, 0x01c6e41596}, kBy128{0x01751997d0, 0x00ccaa009e};

__attribute__((target("pclmul,sse4.1"))) __m128i folded(__m128i onto, __m128i value, __m128i by) noexcept {
  const __m128i low = _mm_clmulepi64_si128(value, by, 0x00), high = _mm_clmulepi64_si128(value, by, 0x11);
  return _mm_xor_si128(_mm_xor_si128(low, high), onto);
}

__attribute__((target("pclmul,sse4.1"))) __m128i loaded(const std::byte* data) noexcept {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(data));
}

// size: at least 64. What is left in the end are 16 bytes and the rest, whose checksum the tables know.
__attribute__((target("pclmul,sse4.1"))) uint32_t by_products(const std::byte* data, size_t size,
                                                              uint32_t crc) noexcept {
  const __m128i by512 = _mm_set_epi64x(static_cast<int64_t>(kBy512.high), static_cast<int64_t>(kBy512.low));
  const __m128i by128 = _mm_set_epi64x(static_cast<int64_t>(kBy128.high), static_cast<int64_t>(kBy128.low));
  __m128i lanes[4];
  for (size_t i = 0; i < 4; ++i) lanes[i] = loaded(data + 16 * i);
  lanes[0] = _mm_xor_si128(lanes[0], _mm_cvtsi32_si128(static_cast<int>(crc)));
  for (data += 64, size -= 64; size >= 64; data += 64, size -= 64) {
    for (size_t i = 0; i < 4; ++i) lanes[i] = folded(loaded(data + 16 * i), lanes[i], by512);
  }
  for (int i = 1; i < 4; ++i) lanes[0] = folded(lanes[i], lanes[0], by128);
  std::array<std::byte, 16> rest;
  _mm_storeu_si128(reinterpret_cast<__m128i*>(rest.data()), lanes[0]);
  return by_tables(data, size, by_tables(rest.data(), rest.size(), 0));
}

#endif

}  // namespace

uint32_t crc32(std::span<const std::byte> bytes, uint32_t before) noexcept {
#if defined(__x86_64__)
  static const bool has_products = __builtin_cpu_supports("pclmul") != 0 && __builtin_cpu_supports("sse4.1") != 0;
  if (has_products && bytes.size() >= 64) return ~by_products(bytes.data(), bytes.size(), ~before);
#endif
  return ~by_tables(bytes.data(), bytes.size(), ~before);
}

}  // namespace qfx
