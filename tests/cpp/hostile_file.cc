#include "hostile_file.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <fstream>
#include <iterator>
#include <memory>
#include <stdexcept>

#include "runtime/buffer.h"
#include "runtime/errors.h"
#include "runtime/serving/crc32.h"
#include "runtime/serving/model.h"
#include "runtime/serving/verify.h"

namespace qfx::test {
namespace {

constexpr size_t kHeader = 32, kRow = 40, kAlignment = 64, kMostSections = 64;
constexpr size_t kSections = 12, kSize = 16, kZero = 24, kChecksum = 28;         // in the header
constexpr size_t kName = 16, kOffset = 16, kBytes = 24, kCrc = 32, kFlags = 36;  // in a row; the name is its length
constexpr uint64_t kMostMemory = uint64_t{64} << 20, kMostProducts = uint64_t{1} << 21;

template <class T>
T number_at(std::span<const std::byte> bytes, size_t at) {
  T number{};
  std::memcpy(&number, bytes.data() + at, sizeof number);
  return number;
}

template <class T>
void put(Content& bytes, size_t at, T number) {
  std::memcpy(bytes.data() + at, &number, sizeof number);
}

size_t aligned(size_t n) {
  return (n + kAlignment - 1) / kAlignment * kAlignment;
}

// Of header and table.
void seal_table(Content& file, size_t rows) {
  put<uint32_t>(file, kChecksum, 0);
  put<uint32_t>(file, kChecksum, crc32({file.data(), kHeader + rows * kRow}));
}

}  // namespace

std::vector<FilePart> parts_of(std::span<const std::byte> file) {
  std::vector<FilePart> parts;
  if (file.size() < kHeader) return parts;
  const auto count = number_at<uint32_t>(file, kSections);
  if (count > kMostSections || kHeader + count * kRow > file.size()) return parts;
  for (uint32_t i = 0; i < count; ++i) {
    const auto row = file.subspan(kHeader + i * kRow, kRow);
    const auto offset = number_at<uint64_t>(row, kOffset), size = number_at<uint64_t>(row, kBytes);
    if (offset > file.size() || size > file.size() - offset) return {};
    const auto content = file.subspan(offset, size);
    parts.push_back({std::string(reinterpret_cast<const char*>(row.data()), kName), number_at<uint32_t>(row, kFlags),
                     Content(content.begin(), content.end())});
  }
  return parts;
}

Content packed(const std::vector<FilePart>& parts) {
  Content file(kHeader + parts.size() * kRow);
  std::memcpy(file.data(), "\x89QFX\r\n\x1a\n\x02\0\0\0", kSections);
  put(file, kSections, static_cast<uint32_t>(parts.size()));
  for (size_t i = 0; i < parts.size(); ++i) {
    const FilePart& part = parts[i];
    const size_t row = kHeader + i * kRow;
    file.resize(aligned(file.size()));
    std::memcpy(file.data() + row, part.name.data(), std::min(part.name.size(), kName));
    put<uint64_t>(file, row + kOffset, file.size());
    put<uint64_t>(file, row + kBytes, part.content.size());
    put(file, row + kCrc, crc32(part.content));
    put(file, row + kFlags, part.flags);
    file.insert(file.end(), part.content.begin(), part.content.end());
  }
  put<uint64_t>(file, kSize, file.size());
  put<uint32_t>(file, kZero, 0);
  seal_table(file, parts.size());
  return file;
}

Content resealed(std::span<const std::byte> given) {
  Content file(given.begin(), given.end());
  const std::vector<FilePart> parts = parts_of(file);
  for (size_t i = 0; i < parts.size(); ++i) put(file, kHeader + i * kRow + kCrc, crc32(parts[i].content));
  if (!parts.empty()) seal_table(file, parts.size());
  return file;
}

Outcome outcome_of(std::span<const std::byte> file, Isa isa, int threads) noexcept {
  const auto copy = std::make_shared<AlignedBuffer>(file.size());
  if (!file.empty()) std::memcpy(copy->data(), file.data(), file.size());
  try {
    Model model({copy->data(), file.size()}, copy, "It", isa, {kMostMemory, kMostProducts});
    const std::string hash = hash_of_example(model, threads);
    try {
      if (verify(model, threads).hash != hash) std::terminate();
    } catch (const FileError&) {  // other costs than it states
    }
    return {hash, {}};
  } catch (const FileError& error) {
    return {{}, error.what()};
  } catch (const ProgramError& error) {
    return {{}, error.what()};
  } catch (const LimitError& error) {
    return {{}, error.what(), true};
  } catch (const InputError& error) {
    return {{}, error.what()};
  }
}

void take(std::span<const std::byte> file, Tally& tally) {
  ++tally.tried;
  const Outcome weakest = outcome_of(file, Isa::scalar, 1);
  ++(weakest.hash.empty() ? tally.refused : tally.ran);
  if (weakest.hash.empty()) return;
  const Outcome best = outcome_of(file, selected_isa(), 2);
  if (!best.is_limited && best.hash != weakest.hash) ++tally.differing;
}

void take_damaged(std::span<const std::byte> file, size_t first, size_t stride, Tally& tally) {
  for (size_t size = first; size < file.size(); size += stride) {
    ++tally.tried;
    const bool is_refused = outcome_of(file.first(size), Isa::scalar, 1).hash.empty();
    ++(is_refused ? tally.refused : tally.unsound);
  }
  for (size_t bit = first; bit < 8 * file.size(); bit += stride) {
    Content changed(file.begin(), file.end());
    changed[bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
    take(resealed(changed), tally);
  }
}

Content content_of(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  if (!stream) throw std::runtime_error("no file " + path);
  const std::string text{std::istreambuf_iterator<char>(stream), {}};
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

}  // namespace qfx::test
