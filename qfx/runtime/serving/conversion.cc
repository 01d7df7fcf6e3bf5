#include "runtime/serving/conversion.h"

#include <cstdint>
#include <cstring>

#include "runtime/shapes.h"

namespace qfx {
namespace {

template <class From, class To>
To converted(From x) {
  if constexpr (std::is_same_v<From, int8_t> && std::is_same_v<To, uint8_t>) {
    return static_cast<uint8_t>(x + 128);
  } else {
    return static_cast<To>(x);
  }
}

// Rows of the last dim, with an odometer over the others.
template <class From, class To>
void convert_elements(const void* from, const InputLayout& layout, void* to) {
  const auto* x = static_cast<const From*>(from);
  auto* y = static_cast<To*>(to);
  const size_t rank = layout.shape.size();
  const int64_t count = element_count(layout.shape);
  const int64_t length = rank == 0 ? 1 : layout.shape[rank - 1], step = rank == 0 ? 0 : layout.strides[rank - 1];
  Dims at(rank, 0);
  for (int64_t done = 0; done < count; done += length) {
    int64_t start = 0;
    for (size_t d = 0; d < rank; ++d) start += at[d] * layout.strides[d];
    for (int64_t i = 0; i < length; ++i) *y++ = converted<From, To>(x[start + i * step]);
    for (size_t d = rank; d-- > 1;) {
      if (++at[d - 1] < layout.shape[d - 1]) break;
      at[d - 1] = 0;
    }
  }
}

using Convert = void (*)(const void*, const InputLayout&, void*);

struct Row {
  DType from, to;
  Convert convert;
};

constexpr Row kRows[] = {
    {DType::u8, DType::f32, convert_elements<uint8_t, float>},
    {DType::s8, DType::f32, convert_elements<int8_t, float>},
    {DType::s32, DType::f32, convert_elements<int32_t, float>},
    {DType::s64, DType::f32, convert_elements<int64_t, float>},
    {DType::boolean, DType::f32, convert_elements<uint8_t, float>},
    {DType::u8, DType::s64, convert_elements<uint8_t, int64_t>},
    {DType::s8, DType::s64, convert_elements<int8_t, int64_t>},
    {DType::s32, DType::s64, convert_elements<int32_t, int64_t>},
    {DType::s8, DType::u8, convert_elements<int8_t, uint8_t>},
};

Convert find(DType from, DType to) noexcept {
  for (const Row& row : kRows) {
    if (row.from == from && row.to == to) return row.convert;
  }
  return nullptr;
}

}  // namespace

bool is_convertible(DType from, DType to) noexcept {
  return find(from, to) != nullptr;
}

void convert(const void* x, DType from, const InputLayout& layout, void* y, DType to) {
  find(from, to)(x, layout, y);
}

}  // namespace qfx
