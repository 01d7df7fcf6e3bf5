#pragma once
// The range of a row of floats, on lanes of any width (core/lanes.h).
#include "core/lanes.h"

namespace qfx::elementwise {
namespace {

inline void meet_one(float v, float& low, float& high) noexcept {
  low = least(v, low);
  high = most(v, high);
}

// Of what it meets. `zeros` gathers v - v, which is 0 or, of an infinity or a NaN, NaN: least and most pass over NaNs.
template <class V>
struct Extents {
  V low, high, zeros;

  Extents(float lowest, float highest) noexcept : low(all<V>(lowest)), high(all<V>(highest)), zeros(V{}) {}
  void meet(V v) noexcept {
    low = least(v, low);
    high = most(v, high);
    zeros = zeros + (v - v);
  }
  void meet(const Extents& other) noexcept {
    low = least(other.low, low);
    high = most(other.high, high);
    zeros = zeros + other.zeros;
  }
  // Of all lanes, and of `n` more numbers.
  void finish(const float* x, int64_t n, float* lowest, float* highest) const noexcept {
    constexpr int64_t lanes = kWidth<V>;
    float lows[lanes], highs[lanes], sums[lanes];
    store(lows, low);
    store(highs, high);
    store(sums, zeros);
    float l = *lowest, h = *highest, zero = l - l;
    for (int64_t k = 0; k < lanes; ++k) {
      meet_one(lows[k], l, h);
      meet_one(highs[k], l, h);
      zero += sums[k];
    }
    for (int64_t i = 0; i < n; ++i) {
      meet_one(x[i], l, h);
      zero += x[i] - x[i];
    }
    *lowest = zero == 0.0f ? l : zero;
    *highest = zero == 0.0f ? h : zero;
  }
};

template <class V>
inline void extent(const float* x, int64_t n, float* low, float* high) noexcept {
  Extents<V> even(*low, *high), odd = even;
  int64_t i = 0;
  for (; i + 2 * kWidth<V> <= n; i += 2 * kWidth<V>) {
    even.meet(load<V>(x + i));
    odd.meet(load<V>(x + i + kWidth<V>));
  }
  even.meet(odd);
  even.finish(x + i, n - i, low, high);
}

}  // namespace
}  // namespace qfx::elementwise
