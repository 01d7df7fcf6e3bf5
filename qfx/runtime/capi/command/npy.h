#pragma once
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/capi/qfx.hpp"

// numpy's files of one array: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
namespace qfx::command {

struct Array {
  qfx_dtype dtype = QFX_FLOAT32;
  Sizes sizes;
  bool is_fortran = false;  // the first dim is the fastest
  std::vector<std::byte> data;

  // A view of it.
  Tensor tensor() const;
};

// numpy's name of a dtype, as files have it; nullptr where numpy has none.
const char* npy_name(qfx_dtype dtype) noexcept;

// A file of version 1 to 3 whose elements have a dtype that models take. Throws std::runtime_error: what is wrong with
// it, and what to do.
Array read_npy(const std::string& path);

// A dense array, as version 1. Throws std::runtime_error.
void write_npy(const std::string& path, const qfx_tensor& tensor);

// What the header of a file says: the text behind its length.
struct NpyHeader {
  std::string dtype;
  bool is_fortran = false;
  Sizes sizes;
};
// Throws std::runtime_error, with a clause.
NpyHeader parse_npy_header(std::string_view text);

}  // namespace qfx::command
