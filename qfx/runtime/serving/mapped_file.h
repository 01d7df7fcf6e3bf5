#pragma once
#include <cstddef>
#include <memory>
#include <span>
#include <string>

namespace qfx {

// A file in memory, whose pages all processes share that map it. Replacing the file is no problem; cutting it short is:
// reading what is gone ends the process, so whoever reads asks `require_whole` first.
class MappedFile {
 public:
  // Throws FileError.
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const noexcept { return {data_, size_}; }
  // How errors call it.
  const std::string& where() const noexcept { return where_; }
  // Throws FileError where the file is shorter than it was.
  void require_whole() const;

 private:
  std::string where_;
  int number_ = -1;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace qfx
