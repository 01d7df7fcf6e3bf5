// libFuzzer's target: a file that runs without torch is loaded and run, on the weakest level and on the best one here.
//
// Files change in their sections, and stay files: what a checksum would refuse at once tells nothing.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "hostile_file.h"

using namespace qfx;
using namespace qfx::test;

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t most);

namespace {

constexpr size_t kHead = 64, kTables = 16, kContents = 24, kSlack = 64;  // of a program's bytes

std::span<const std::byte> bytes_of(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const std::byte*>(data), size};
}

void mutate(Content& content, size_t most) {
  const size_t size = content.size();
  content.resize(std::max(most, size));
  content.resize(LLVMFuzzerMutate(reinterpret_cast<uint8_t*>(content.data()), size, content.size()));
}

size_t aligned(size_t n) {
  return (n + kHead - 1) / kHead * kHead;
}

// The tables of a program change, and the head says how long they are.
void mutate_tables(Content& program, size_t most) {
  uint64_t size = 0;
  if (program.size() < kHead + kSlack) return mutate(program, most);
  std::memcpy(&size, program.data() + kTables, sizeof size);
  if (size > program.size() - kHead - kSlack) return mutate(program, most);
  Content tables(program.begin() + kHead, program.begin() + static_cast<ptrdiff_t>(kHead + size));
  const auto rest = static_cast<ptrdiff_t>(std::min(kHead + aligned(size), program.size()));
  const Content contents(program.begin() + rest, program.end());
  mutate(tables, most);
  size = tables.size();
  const uint64_t constants = contents.size() < kSlack ? 0 : contents.size() - kSlack;
  program.resize(kHead);
  std::memcpy(program.data() + kTables, &size, sizeof size);
  std::memcpy(program.data() + kContents, &constants, sizeof constants);
  program.insert(program.end(), tables.begin(), tables.end());
  program.resize(aligned(program.size()));
  program.insert(program.end(), contents.begin(), contents.end());
}

}  // namespace

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t most, unsigned seed) {
  std::vector<FilePart> parts = parts_of(bytes_of(data, size));
  if (parts.empty()) return LLVMFuzzerMutate(data, size, most);
  FilePart& part = parts[seed % parts.size()];
  const size_t room = part.content.size() + (most > size ? most - size : 0);
  const bool is_program = std::strcmp(part.name.c_str(), "program") == 0;
  if (is_program && seed / 7 % 8 != 0) {
    mutate_tables(part.content, room);
  } else {
    mutate(part.content, room);
  }
  const Content made = packed(parts);
  if (made.size() > most) return size;
  std::memcpy(data, made.data(), made.size());
  return made.size();
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const Content file = resealed(bytes_of(data, size));
  const Outcome weakest = outcome_of(file, Isa::scalar, 1);
  if (weakest.hash.empty()) return 0;
  const Outcome best = outcome_of(file, selected_isa(), 2);
  if (!best.is_limited && best.hash != weakest.hash) {
    std::fprintf(stderr, "levels differ: %s %s %s\n", weakest.hash.c_str(), best.hash.c_str(), best.refusal.c_str());
    std::abort();
  }
  return 0;
}
