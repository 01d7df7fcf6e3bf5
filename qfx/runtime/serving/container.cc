#include "runtime/serving/container.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string_view>

#include "runtime/errors.h"
#include "runtime/serving/crc32.h"

namespace qfx {
namespace {

using Bytes = std::span<const std::byte>;

constexpr std::string_view kMagic{"\x89QFX\r\n\x1a\n", 8};
constexpr uint32_t kFirstVersion = 1, kLastVersion = 2;
constexpr size_t kAlignment = 64;
constexpr uint32_t kOptional = 1;
constexpr uint32_t kMostSections = 64;

struct Header {
  char magic[8];
  uint32_t version, sections;
  uint64_t size;
  uint32_t zero, checksum;
};
static_assert(sizeof(Header) == 32);

struct Row {
  char name[16];
  uint64_t offset, size;
  uint32_t checksum, flags;
};
static_assert(sizeof(Row) == 40);

std::string number(uint64_t n) {
  return std::to_string(n);
}

uint64_t aligned(uint64_t offset) {
  return (offset + kAlignment - 1) / kAlignment * kAlignment;
}

uint64_t table_end(uint32_t sections) {
  return sizeof(Header) + uint64_t{sections} * sizeof(Row);
}

// One file, while it is checked.
class Checked {
 public:
  Checked(Bytes file, const std::string& where) : file_(file), where_(where), header_(read_header()) {}

  std::vector<Section> sections() const {
    std::vector<Section> found;
    found.reserve(header_.sections);
    uint64_t end = table_end(header_.sections);
    for (uint32_t i = 0; i < header_.sections; ++i) found.push_back(section(i, found, end));
    if (end != file_.size()) damaged(number(file_.size() - end) + " bytes follow its last section");
    return found;
  }

 private:
  [[noreturn]] void damaged(const std::string& why) const {
    std::string sentence = why + ".";
    if (sentence[0] >= 'a' && sentence[0] <= 'z') sentence[0] = static_cast<char>(sentence[0] - 'a' + 'A');
    throw FileError(where_ + " is damaged.", sentence, "Copy or save it again.");
  }

  Header read_header() const {
    if (file_.size() < kMagic.size() || std::memcmp(file_.data(), kMagic.data(), kMagic.size()) != 0) {
      throw FileError(where_ + " is no .qfx file.", "", "Give a file that qfx.save wrote from a quantized model.");
    }
    Header header{};
    if (file_.size() < sizeof header) damaged("it ends after " + number(file_.size()) + " bytes");
    std::memcpy(&header, file_.data(), sizeof header);
    if (header.version < kFirstVersion || header.version > kLastVersion) {
      throw FileError(where_ + " is of version " + number(header.version) + " of the format.",
                      "This qfx reads versions " + number(kFirstVersion) + " to " + number(kLastVersion) + ".",
                      "Update qfx, or save the model again with this one.");
    }
    if (header.size != file_.size()) {
      damaged("it has " + number(file_.size()) + " bytes where its header says " + number(header.size));
    }
    if (header.sections == 0 || header.sections > kMostSections || table_end(header.sections) > file_.size()) {
      damaged("its header names " + number(header.sections) + " sections");
    }
    if (header.zero != 0 || header.checksum != checksum(header)) {
      damaged("the checksum of its header does not match");
    }
    return header;
  }

  // Of header and table, itself taken as 0.
  uint32_t checksum(Header header) const {
    header.checksum = 0;
    const uint64_t end = table_end(header.sections);
    return crc32(file_.subspan(sizeof header, end - sizeof header), crc32(std::as_bytes(std::span(&header, 1))));
  }

  // end: where the section before ends; then, where this one does.
  Section section(uint32_t index, const std::vector<Section>& before, uint64_t& end) const {
    Row row{};
    std::memcpy(&row, file_.data() + table_end(index), sizeof row);
    const Section found{name_of(row), {}, (row.flags & kOptional) != 0};
    const bool is_twice = std::ranges::any_of(before, [&](const Section& s) { return s.name == found.name; });
    if (found.name.empty() || is_twice || (row.flags & ~kOptional) != 0) {
      damaged("row " + number(index) + " of its table makes no sense");
    }
    const bool follows = row.offset == aligned(end) && row.offset <= file_.size();
    if (!follows || row.size > file_.size() - row.offset || !are_zeros(file_.subspan(end, row.offset - end))) {
      damaged("section '" + found.name + "' does not lie where it belongs");
    }
    end = row.offset + row.size;
    const Bytes content = file_.subspan(row.offset, row.size);
    if (crc32(content) != row.checksum) damaged("the checksum of section '" + found.name + "' does not match");
    return {found.name, content, found.is_optional};
  }

  // Letters, digits and underscores, no digit first, filled up with zeros; else empty.
  static std::string name_of(const Row& row) {
    const std::string_view whole(row.name, sizeof row.name);
    const std::string name(whole.substr(0, whole.find_last_not_of('\0') + 1));
    const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
    const auto fits = [&](char c) { return is_letter(c) || (c >= '0' && c <= '9'); };
    return !name.empty() && is_letter(name[0]) && std::ranges::all_of(name, fits) ? name : std::string();
  }

  static bool are_zeros(Bytes bytes) {
    return std::ranges::all_of(bytes, [](std::byte b) { return b == std::byte{0}; });
  }

  Bytes file_;
  const std::string& where_;
  Header header_;
};

}  // namespace

std::vector<Section> sections_of(std::span<const std::byte> file, const std::string& where) {
  if constexpr (std::endian::native != std::endian::little) {
    throw FileError(where + " can't be read here.", "Files are little-endian, this machine is not.",
                    "Load it on a little-endian machine.");
  }
  return Checked(file, where).sections();
}

}  // namespace qfx
