#pragma once
// The range of a row of floats, on lanes of any width (core/lanes.h).
#include "core/lanes.h"

namespace qfx::elementwise {
namespace {

inline void meet_one(float v, float& low, float& high) noexcept {
  low = least(v, low);
  high = most(v, high);
}

// `zeros` gathers v - v, which is 0 or, of an infinity or a NaN, NaN: least and most pass over NaNs.
template <class V>
inline void extent(const float* x, int64_t n, float* low, float* high) noexcept {
  V lo[2] = {all<V>(*low), all<V>(*low)}, hi[2] = {all<V>(*high), all<V>(*high)}, zeros[2] = {V{}, V{}};
  const auto meet = [](V& l, V& h, V v) {
    l = least(v, l);
    h = most(v, h);
  };
  int64_t i = 0;
  for (; i + 2 * kWidth<V> <= n; i += 2 * kWidth<V>)
    for (int half = 0; half < 2; ++half) {
      const V v = load<V>(x + i + half * kWidth<V>);
      meet(lo[half], hi[half], v);
      zeros[half] += v - v;
    }
  meet(lo[0], hi[0], lo[1]);
  meet(lo[0], hi[0], hi[1]);
  zeros[0] += zeros[1];
  constexpr int64_t lanes = kWidth<V>;
  float lows[lanes], highs[lanes], sums[lanes];
  std::memcpy(lows, &lo[0], sizeof(V));
  std::memcpy(highs, &hi[0], sizeof(V));
  std::memcpy(sums, &zeros[0], sizeof(V));
  float l = *low, h = *high, zero = l - l;
  for (int64_t k = 0; k < lanes; ++k) {
    meet_one(lows[k], l, h);
    meet_one(highs[k], l, h);
    zero += sums[k];
  }
  for (; i < n; ++i) {
    meet_one(x[i], l, h);
    zero += x[i] - x[i];
  }
  *low = zero == 0.0f ? l : zero;
  *high = zero == 0.0f ? h : zero;
}

}  // namespace
}  // namespace qfx::elementwise
