#pragma once
// Norms of rows on lanes of any width, as kernels.h defines them.
#include "float_ops/loops.h"

namespace qfx::float_ops {
namespace {

template <class V>
struct Moments {
  V first, second;
};

// The sums of d = x - origin and of d * d.
template <class V>
inline Moments<float> moments(const float* x, int64_t n, float origin) noexcept {
  Lanes<V, kNormLanes> first(0.0f), second(0.0f);
  for (int64_t i = 0; i < n; i += kGroup) {
    Lanes<V, kNormLanes> d_group(0.0f), square_group(0.0f);
    for_each_lane<V, kNormLanes>(x + i, n - i < kGroup ? n - i : kGroup, origin, [&](V v, int64_t k) {
      const V d = v - origin;
      d_group.part[k] = d_group.part[k] + d;
      square_group.part[k] = square_group.part[k] + d * d;
    });
    first.add(d_group);
    second.add(square_group);
  }
  return {first.folded(kAdd), second.folded(kAdd)};
}

template <class V>
inline void normalize_row(const float* x, float* y, int64_t n, float eps, const float* weight,
                          const float* bias) noexcept {
  const float count = static_cast<float>(n);
  const float origin = sum_of<V, kNormLanes>(x, n, 0.0f, [](V v) { return v; }) / count;
  const Moments<float> sums = moments<V>(x, n, origin);
  const float rest = sums.first / count, variance = most(0.0f, sums.second / count - rest * rest);
  const float scale = 1.0f / root(variance + eps);
  for_each_at<V>(n, [=](auto from, auto to, int64_t i) {
    to(y + i, (((from(x + i) - origin) - rest) * scale) * from(weight + i) + from(bias + i));
  });
}

template <class V>
inline void rms_row(const float* x, float* y, int64_t n, float eps, const float* weight, const float*) noexcept {
  const float square = sum_of<V, kNormLanes>(x, n, 0.0f, [](V v) { return v * v; });
  const float scale = 1.0f / root(square / static_cast<float>(n) + eps);
  for_each_at<V>(n, [=](auto from, auto to, int64_t i) { to(y + i, (from(x + i) * scale) * from(weight + i)); });
}

}  // namespace
}  // namespace qfx::float_ops
