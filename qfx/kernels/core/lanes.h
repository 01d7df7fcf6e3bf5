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
// The first `n` lanes, of which there may be none; the others are `rest`, or are left as they are.
template <class V>
inline V load_part(const float* from, int64_t n, V rest) noexcept {
  float at[sizeof(V) / sizeof(float)];
  store(at, rest);
  if (n > 0) std::memcpy(at, from, static_cast<size_t>(n) * sizeof(float));
  return load<V>(at);
}
template <class V>
inline void store_part(float* to, int64_t n, V v) noexcept {
  std::memcpy(to, &v, static_cast<size_t>(n) * sizeof(float));
}
// Four floats from each of as many places as there are, `step` floats apart: side by side.
template <class V>
inline V load_quads(const float* from, int64_t step) noexcept {
  static_assert(sizeof(V) == 4 * sizeof(float), "wider levels specialize it");
  (void)step;
  return load<V>(from);
}
template <class V>
inline void store_quads(float* to, int64_t step, V v) noexcept {
  static_assert(sizeof(V) == 4 * sizeof(float), "wider levels specialize it");
  (void)step;
  store(to, v);
}
template <class V>
inline V all(float value) noexcept {
  return V{} + value;
}
template <class V>
inline constexpr int64_t kWidth = static_cast<int64_t>(sizeof(V) / sizeof(float));

// The 32 bits of each lane.
template <class V>
struct IntsOf {
  typedef decltype(V{} < V{}) type;
};
template <>
struct IntsOf<float> {
  typedef int32_t type;
};
template <class V>
using Ints = typename IntsOf<V>::type;
template <class V>
inline Ints<V> ints(V v) noexcept {
  Ints<V> bits;
  std::memcpy(&bits, &v, sizeof v);
  return bits;
}
template <class V>
inline V floats(Ints<V> bits) noexcept {
  V v;
  std::memcpy(&v, &bits, sizeof v);
  return v;
}
// An integer of less than 2^22.
template <class V>
inline V integer_in(Ints<V> i) noexcept {
  return floats<V>(i + 0x4b400000) - 0x1.8p23f;
}

// Where one is NaN, and of two zeros, the second: as the instructions of x86, for which its levels specialize them.
template <class V>
inline V least(V a, V b) noexcept {
  return a < b ? a : b;
}
template <class V>
inline V most(V a, V b) noexcept {
  return a > b ? a : b;
}

template <class V>
inline V root(V v) noexcept {
  float at[kWidth<V>];
  store(at, v);
  for (float& value : at) value = __builtin_sqrtf(value);
  return load<V>(at);
}

}  // namespace
}  // namespace qfx
