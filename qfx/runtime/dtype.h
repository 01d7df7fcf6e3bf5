#pragma once
#include <cstdint>
#include <string_view>
#include <vector>

namespace qfx {

using Dims = std::vector<int64_t>;

// Element types of values and constants. Values are u8 or f32; s8 and s32 occur in constants only.
enum class DType : int { u8, s8, s32, f32 };

constexpr const char* dtype_name(DType dtype) noexcept {
  constexpr const char* names[] = {"u8", "s8", "s32", "f32"};
  return names[static_cast<int>(dtype)];
}

constexpr int element_size(DType dtype) noexcept {
  return dtype == DType::u8 || dtype == DType::s8 ? 1 : 4;
}

// Throws std::invalid_argument for an unknown name.
DType parse_dtype(std::string_view name);

}  // namespace qfx
