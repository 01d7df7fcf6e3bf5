#pragma once
// Turns of pairs on lanes of a vector (core/lanes.h).
#include "core/lanes.h"
#include "core/shuffle.h"

namespace qfx::rotary {
namespace {

// `n` numbers, as many as there are lanes or fewer.
template <class V>
inline V loaded(const float* from, int64_t n) noexcept {
  return n == kWidth<V> ? load<V>(from) : load_part(from, n, V{});
}
template <class V>
inline void stored(float* to, int64_t n, V v) noexcept {
  if (n == kWidth<V>)
    store(to, v);
  else
    store_part(to, n, v);
}

template <class V>
inline void turn_halves(const float* x, const float* cos, const float* sin, float* y, int64_t pairs,
                        bool shared) noexcept {
  const int64_t second = shared ? 0 : pairs;
  for (int64_t i = 0; i < pairs; i += kWidth<V>) {
    const int64_t n = pairs - i < kWidth<V> ? pairs - i : kWidth<V>;
    const V a = loaded<V>(x + i, n), b = loaded<V>(x + pairs + i, n);
    stored(y + i, n, a * loaded<V>(cos + i, n) - b * loaded<V>(sin + i, n));
    stored(y + pairs + i, n, b * loaded<V>(cos + second + i, n) + a * loaded<V>(sin + second + i, n));
  }
}

// Each of the first half of the lanes twice.
template <class V>
inline V twice(V v) noexcept {
  Ints<V> from{};
  for (int i = 0; i < kWidth<V>; ++i) from[i] = i / 2;
  return shuffled(v, from);
}

template <class V>
inline V neighbours(V v) noexcept {
  Ints<V> from{};
  for (int i = 0; i < kWidth<V>; ++i) from[i] = i ^ 1;
  return shuffled(v, from);
}

template <class V>
inline void turn_pairs(const float* x, const float* cos, const float* sin, float* y, int64_t pairs,
                       bool shared) noexcept {
  V sign{};
  for (int i = 0; i < kWidth<V>; ++i) sign[i] = (i & 1) != 0 ? 1.0f : -1.0f;
  for (int64_t i = 0; i < 2 * pairs; i += kWidth<V>) {
    const int64_t n = 2 * pairs - i < kWidth<V> ? 2 * pairs - i : kWidth<V>;
    const V v = loaded<V>(x + i, n);
    const V c = shared ? twice(load_part(cos + i / 2, n / 2, V{})) : loaded<V>(cos + i, n);
    const V s = shared ? twice(load_part(sin + i / 2, n / 2, V{})) : loaded<V>(sin + i, n);
    stored(y + i, n, v * c + (neighbours(v) * sign) * s);
  }
}

}  // namespace
}  // namespace qfx::rotary
