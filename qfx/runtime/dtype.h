#pragma once
#include <cstdint>
#include <string_view>
#include <vector>

namespace qfx {

using Dims = std::vector<int64_t>;

// Element types of values and constants; dtypes.inc is the list.
enum class DType : int {
#define QFX_DTYPE(enumerator, name, kind, bits, numpy, torch) enumerator,
#include "runtime/dtypes.inc"
#undef QFX_DTYPE
};

struct DTypeRow {
  enum class Kind { unsigned_integer, signed_integer, floating, bfloat, boolean };

  DType dtype;
  const char* name;
  Kind kind;
  int bits;
  const char *numpy, *torch;  // what they call it, or ""
};

inline constexpr DTypeRow kDTypes[] = {
#define QFX_DTYPE(enumerator, name, kind, bits, numpy, torch) \
  {DType::enumerator, name, DTypeRow::Kind::kind, bits, numpy, torch},
#include "runtime/dtypes.inc"
#undef QFX_DTYPE
};

constexpr const DTypeRow& dtype_row(DType dtype) noexcept {
  return kDTypes[static_cast<int>(dtype)];
}

constexpr const char* dtype_name(DType dtype) noexcept {
  return dtype_row(dtype).name;
}

// Whether an element has an address.
constexpr bool is_whole_bytes(DType dtype) noexcept {
  return dtype_row(dtype).bits % 8 == 0;
}

// Bytes of an element of a type of whole bytes.
constexpr int element_size(DType dtype) noexcept {
  return dtype_row(dtype).bits / 8;
}

// Bytes of so many elements in a row; 4-bit ones are rounded up to a byte.
constexpr int64_t byte_size(int64_t elements, DType dtype) noexcept {
  return is_whole_bytes(dtype) ? elements * element_size(dtype) : (elements * dtype_row(dtype).bits + 7) / 8;
}

// Whether kernels may read a little past the end of such a value.
constexpr bool is_read_past_end(DType dtype) noexcept {
  return dtype_row(dtype).bits <= 8;
}

// Throws std::invalid_argument for an unknown name.
DType parse_dtype(std::string_view name);

}  // namespace qfx
