#pragma once
// What the levels' kernels on floats are made of, for a vector of any width or one float: the same operations on every
// lane, each rounded on its own, so that every level computes the same bits. Everything has internal linkage, so that
// no instruction of a level reaches another object through a merged inline function.
#include <cstdint>
#include <cstring>

namespace qfx {
namespace {

template <class V>
inline V load(const float* from) noexcept {
  V v;
  std::memcpy(&v, from, sizeof v);
  return v;
}
template <class V>
inline void store(float* to, V v) noexcept {
  std::memcpy(to, &v, sizeof v);
}
template <class V>
inline V all(float value) noexcept {
  return V{} + value;
}
template <class V>
inline constexpr int64_t kWidth = static_cast<int64_t>(sizeof(V) / sizeof(float));

// Where one is NaN, and of two zeros, the second: as the instructions of x86, for which its levels specialize them.
template <class V>
inline V least(V a, V b) noexcept {
  return a < b ? a : b;
}
template <class V>
inline V most(V a, V b) noexcept {
  return a > b ? a : b;
}

}  // namespace
}  // namespace qfx
