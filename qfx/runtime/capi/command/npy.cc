#include "runtime/capi/command/npy.h"

#include <sys/stat.h>

#include <array>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

namespace qfx::command {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr std::string_view kMagic{"\x93NUMPY", 6};

struct Row {
  qfx_dtype dtype;
  const char* name;
};
constexpr Row kRows[] = {{QFX_UINT8, "|u1"},   {QFX_INT8, "|i1"},  {QFX_INT32, "<i4"}, {QFX_FLOAT32, "<f4"},
                         {QFX_FLOAT16, "<f2"}, {QFX_INT64, "<i8"}, {QFX_BOOL, "|b1"}};

[[noreturn]] void fail(const std::string& path, const std::string& why, const std::string& remedy) {
  throw std::runtime_error("'" + path + "' can't be taken: " + why + ". " + remedy);
}

struct Close {
  void operator()(FILE* file) const noexcept { std::fclose(file); }
};
using File = std::unique_ptr<FILE, Close>;

File opened(const std::string& path, const char* mode) {
  File file(std::fopen(path.c_str(), mode));
  if (file == nullptr)
    throw std::runtime_error("'" + path + "' can't be opened: " + std::strerror(errno) + ". Check the path.");
  return file;
}

// Reads one file from its beginning to its end.
class Reader {
 public:
  explicit Reader(const std::string& path) : path_(path), file_(opened(path, "rb")) {
    struct stat found{};
    if (fstat(fileno(file_.get()), &found) != 0 || !S_ISREG(found.st_mode)) {
      fail(path_, "it is no regular file", "Check the path.");
    }
    left_ = static_cast<uint64_t>(found.st_size);
  }

  Array array() {
    Array made;
    NpyHeader header;
    try {
      header = parse_npy_header(header_text());
    } catch (const std::runtime_error& error) {
      fail(path_, error.what(), "Write it again with numpy.save.");
    }
    made.dtype = dtype_named(header.dtype);
    made.is_fortran = header.is_fortran;
    made.sizes = std::move(header.sizes);
    uint64_t bytes = qfx_dtype_size(made.dtype);
    for (const int64_t s : made.sizes) bytes *= static_cast<uint64_t>(s);
    if (bytes != left_) {
      fail(path_,
           "it has " + std::to_string(left_) + " bytes of elements where its shape needs " + std::to_string(bytes),
           "Write it again with numpy.save.");
    }
    made.data.resize(bytes);
    read(made.data.data(), bytes);
    return made;
  }

 private:
  void read(void* to, size_t bytes) {
    if (bytes > left_ || std::fread(to, 1, bytes, file_.get()) != bytes) {
      fail(path_, "it ends too early", "Write it again with numpy.save.");
    }
    left_ -= bytes;
  }

  std::string header_text() {
    std::array<char, 8> start{};
    const bool is_long = left_ >= start.size();
    if (is_long) read(start.data(), start.size());
    if (!is_long || std::string_view(start.data(), kMagic.size()) != kMagic) {
      fail(path_, "it is no .npy file", "Write it with numpy.save.");
    }
    const int version = static_cast<unsigned char>(start[6]);
    if (version < 1 || version > 3) {
      fail(path_, "it is of version " + std::to_string(version), "Write one of version 1 to 3, as numpy.save does.");
    }
    std::array<unsigned char, 4> length{};
    read(length.data(), version == 1 ? 2 : 4);
    const uint32_t bytes = length[0] | length[1] << 8 | length[2] << 16 | static_cast<uint32_t>(length[3]) << 24;
    if (bytes > left_) fail(path_, "it ends within its header", "Write it again with numpy.save.");
    std::string text(bytes, '\0');
    read(text.data(), bytes);
    return text;
  }

  qfx_dtype dtype_named(const std::string& name) const {
    for (const Row& row : kRows) {
      if (name == row.name) return row.dtype;
    }
    fail(path_, "its elements are '" + name + "', which no model takes",
         "Convert them, as x.astype('<f4') does for float32.");
  }

  const std::string& path_;
  File file_;
  uint64_t left_ = 0;
};

}  // namespace

Tensor Array::tensor() const {
  Sizes strides;
  int64_t stride = 1;
  for (size_t d = 0; is_fortran && d < sizes.size(); ++d) {
    strides.push_back(stride);
    stride *= sizes[d];
  }
  return {data.data(), dtype, sizes, std::move(strides)};
}

const char* npy_name(qfx_dtype dtype) noexcept {
  for (const Row& row : kRows) {
    if (row.dtype == dtype) return row.name;
  }
  return nullptr;
}

Array read_npy(const std::string& path) {
  return Reader(path).array();
}

void write_npy(const std::string& path, const qfx_tensor& tensor) {
  const char* name = npy_name(tensor.dtype);
  if (name == nullptr) throw std::runtime_error("'" + path + "' can't be written: numpy has no such dtype.");
  std::string sizes;
  size_t bytes = qfx_dtype_size(tensor.dtype);
  for (int32_t d = 0; d < tensor.rank; ++d) {
    sizes += std::to_string(tensor.sizes[d]) + (d + 1 < tensor.rank ? ", " : tensor.rank == 1 ? "," : "");
    bytes *= static_cast<size_t>(tensor.sizes[d]);
  }
  std::string header = "{'descr': '" + std::string(name) + "', 'fortran_order': False, 'shape': (" + sizes + "), }";
  header.append(63 - (kMagic.size() + 4 + header.size()) % 64, ' ');
  header += '\n';
  std::string start(kMagic);
  start += {'\1', '\0', static_cast<char>(header.size() % 256), static_cast<char>(header.size() / 256)};
  start += header;
  const File file = opened(path, "wb");
  const bool is_written = std::fwrite(start.data(), 1, start.size(), file.get()) == start.size() &&
                          (bytes == 0 || std::fwrite(tensor.data, 1, bytes, file.get()) == bytes) &&
                          std::fflush(file.get()) == 0;
  if (!is_written) throw std::runtime_error("'" + path + "' can't be written: " + std::strerror(errno) + ".");
}

}  // namespace qfx::command
