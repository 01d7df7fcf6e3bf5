#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/isa.h"

// Files made to harm, for tests and fuzzers: what one holds is changed, and every checksum is right again.
namespace qfx::test {

using Content = std::vector<std::byte>;

struct FilePart {
  std::string name;
  uint32_t flags = 0;
  Content content;
};

// The sections of a file, whatever its checksums are; nothing where it has none.
std::vector<FilePart> parts_of(std::span<const std::byte> file);

// The file of these sections.
Content packed(const std::vector<FilePart>& parts);

// The file with its checksums made right where its table can be read, else as it is.
Content resealed(std::span<const std::byte> file);

// What became of loading a file, and running what it says: a refusal, or the hash of its outputs, which no level and no
// number of threads changes.
struct Outcome {
  std::string hash;
  std::string refusal;
  bool is_limited = false;  // refused for what it takes, which threads and levels change
};

// With limits that a test can afford. Anything but a result or an error of runtime/errors.h is a failure of the
// program, and terminates it.
Outcome outcome_of(std::span<const std::byte> file, Isa isa, int threads) noexcept;

// What became of many files.
struct Tally {
  int64_t tried = 0, refused = 0, ran = 0;
  int64_t differing = 0;  // levels said different things
  int64_t unsound = 0;    // no file at all, and taken for one
};

// One file on the weakest level and on the best one here.
void take(std::span<const std::byte> file, Tally& tally);

// Every `stride`th truncation, and every `stride`th bit flipped with the checksums made right, from number `first` on.
void take_damaged(std::span<const std::byte> file, size_t first, size_t stride, Tally& tally);

// The file's bytes.
Content content_of(const std::string& path);

}  // namespace qfx::test
