#include "runtime/serving/packing.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "runtime/loaded.h"
#include "runtime/serving/crc32.h"

namespace qfx {
namespace {

constexpr std::string_view kMagic{"\x89QFXPAK\n", 8};
constexpr size_t kAlignment = 64;
constexpr size_t kReadSlack = AlignedBuffer::kReadSlack;

struct Head {
  char magic[8];
  uint32_t version, checksum;
  char isa[16];
  uint64_t program_size;
  uint32_t program_checksum, zero;
  uint64_t parts;
  uint64_t zeros;
};
static_assert(sizeof(Head) == 64);

Head head_of(std::span<const std::byte> content, Isa isa) {
  Head head{};
  std::memcpy(head.magic, kMagic.data(), kMagic.size());
  head.version = kPackingVersion;
  const std::string_view name = isa_name(isa);
  std::memcpy(head.isa, name.data(), std::min(name.size(), sizeof head.isa));
  head.program_size = content.size();
  head.program_checksum = crc32(content);
  return head;
}

class Recorder final : public PackingStore {
 public:
  Bytes take(size_t) override { return {nullptr, nullptr}; }
  void made(std::span<const std::byte> bytes) override { parts_.emplace_back(bytes.begin(), bytes.end()); }

  std::string bytes(Head head) const {
    head.parts = parts_.size();
    std::string out;
    const auto append = [&](const void* data, size_t size) { out.append(static_cast<const char*>(data), size); };
    const auto align = [&] { out.resize((out.size() + kAlignment - 1) / kAlignment * kAlignment); };
    for (const auto& part : parts_) {
      const uint64_t size = part.size();
      append(&size, sizeof size);
    }
    align();
    for (const auto& part : parts_) {
      append(part.data(), part.size());
      align();
    }
    out.resize(out.size() + kReadSlack);
    head.checksum = crc32(std::as_bytes(std::span(out)));
    return std::string(reinterpret_cast<const char*>(&head), sizeof head) + out;
  }

 private:
  std::vector<std::vector<std::byte>> parts_;
};

// The parts behind the head; nothing if they are not where their sizes say.
std::optional<std::vector<std::span<const std::byte>>> parts_of(std::span<const std::byte> bytes, uint64_t count) {
  if (count > bytes.size() / sizeof(uint64_t)) return std::nullopt;
  std::vector<std::span<const std::byte>> parts;
  const auto aligned = [](uint64_t n) { return (n + kAlignment - 1) / kAlignment * kAlignment; };
  uint64_t at = aligned(count * sizeof(uint64_t));
  for (uint64_t i = 0; i < count; ++i) {
    uint64_t size = 0;
    std::memcpy(&size, bytes.data() + i * sizeof size, sizeof size);
    if (at > bytes.size() || size > bytes.size() - at) return std::nullopt;
    parts.push_back(bytes.subspan(at, size));
    at = aligned(at + size);
  }
  if (at + kReadSlack != bytes.size()) return std::nullopt;
  return parts;
}

}  // namespace

std::string pack_for(const std::shared_ptr<const Program>& program, std::span<const std::byte> content, Isa isa) {
  Recorder recorder;
  const LoadedProgram loaded(program, isa, Release::nothing, &recorder);
  return recorder.bytes(head_of(content, isa));
}

std::optional<PackedParts> PackedParts::of(std::span<const std::byte> bytes, std::shared_ptr<const void> owner,
                                           std::span<const std::byte> content, Isa isa) {
  Head head{}, wanted = head_of(content, isa);
  if (bytes.size() < sizeof head || reinterpret_cast<uintptr_t>(bytes.data()) % kAlignment != 0) return std::nullopt;
  std::memcpy(&head, bytes.data(), sizeof head);
  const auto rest = bytes.subspan(sizeof head);
  wanted.checksum = crc32(rest);
  wanted.parts = head.parts;
  if (std::memcmp(&head, &wanted, sizeof head) != 0) return std::nullopt;
  auto parts = parts_of(rest, head.parts);
  if (!parts) return std::nullopt;
  PackedParts made;
  made.parts_ = std::move(*parts);
  made.owner_ = std::move(owner);
  return made;
}

PackingStore::Bytes PackedParts::take(size_t bytes) {
  if (next_ >= parts_.size() || parts_[next_].size() != bytes) {
    throw std::invalid_argument("what is packed for it is not what it wants");
  }
  return {parts_[next_++].data(), owner_};
}

}  // namespace qfx
