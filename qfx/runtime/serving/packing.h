#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/isa.h"
#include "core/packed.h"
#include "runtime/program.h"

namespace qfx {

// Weights of a program as the kernels of one ISA want them, as bytes: a section of a file, or a file beside it, which
// all processes share that map it. It says of which program, kernels and packing it is; that of others is not used.
//
// A head: magic, kPackingVersion, the checksum of what follows the head, the ISA, checksum and size of the program's
// bytes, the number of parts. Then their sizes; then the parts, each from a multiple of 64 bytes on, and 64 zeros.

// To be raised whenever what kernels pack, or the order in which they do, is another: tests hold it.
inline constexpr uint32_t kPackingVersion = 1;

// What is packed for `program`, whose bytes are `content`.
std::string pack_for(const std::shared_ptr<const Program>& program, std::span<const std::byte> content, Isa isa);

// Gives kernels what was packed for them.
class PackedParts final : public PackingStore {
 public:
  // Nothing if `bytes` are of another program, ISA or version, or damaged.
  static std::optional<PackedParts> of(std::span<const std::byte> bytes, std::shared_ptr<const void> owner,
                                       std::span<const std::byte> content, Isa isa);

  Bytes take(size_t bytes) override;
  void made(std::span<const std::byte>) override {}

 private:
  std::vector<std::span<const std::byte>> parts_;
  std::shared_ptr<const void> owner_;
  size_t next_ = 0;
};

}  // namespace qfx
