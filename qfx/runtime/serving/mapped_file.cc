#include "runtime/serving/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "runtime/errors.h"

namespace qfx {
namespace {

// The error of the system's last call, once `file` is closed.
FileError unreadable(const std::string& where, int file) {
  const std::string why = std::string(std::strerror(errno)) + ".";
  if (file >= 0) close(file);
  return {where + " can't be read.", why, "Check the path."};
}

}  // namespace

MappedFile::MappedFile(const std::string& path)
    : where_("'" + path + "'"), number_(open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
  struct stat found{};
  if (number_ < 0 || fstat(number_, &found) != 0) throw unreadable(where_, number_);
  if (!S_ISREG(found.st_mode)) {
    close(number_);
    const char* kind = S_ISDIR(found.st_mode) ? "folder" : "pipe or a device";
    throw FileError(where_ + " can't be read.", std::string("It is a ") + kind + ", not a file.", "Check the path.");
  }
  size_ = static_cast<size_t>(found.st_size);
  if (size_ == 0) return;
  void* memory = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE | MAP_POPULATE, number_, 0);
  if (memory == MAP_FAILED) throw unreadable(where_, number_);
  data_ = static_cast<const std::byte*>(memory);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<std::byte*>(data_), size_);
  close(number_);
}

void MappedFile::require_whole() const {
  struct stat found{};
  if (fstat(number_, &found) == 0 && static_cast<size_t>(found.st_size) >= size_) return;
  throw FileError(where_ + " was cut short while a model of it was in use.",
                  "A model reads constants where the file is mapped.",
                  "Replace files in one step, as qfx.save does, and load the model again.");
}

}  // namespace qfx
