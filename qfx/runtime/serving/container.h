#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace qfx {

// A part of a .qfx file, as a view of its bytes.
struct Section {
  std::string name;
  std::span<const std::byte> content;
  bool is_optional = false;  // a reader who does not know it may skip it
};

// The sections of a file, after every byte of it is checked. qfx/file/container.py writes files, and says what is
// where. where: what errors call the file. Throws FileError: it is no such file, of a later version, or damaged.
std::vector<Section> sections_of(std::span<const std::byte> file, const std::string& where);

}  // namespace qfx
