#pragma once
// Loops over floats on lanes of any width, and how the lanes of a row become one number.
#include "core/lanes.h"
#include "float_ops/kernels.h"

namespace qfx::float_ops {
namespace {

constexpr auto kAdd = [](auto a, auto b) noexcept { return a + b; };

// body(from, to, i) for each vector, with how it loads from and stores to address p + i.
template <class V, class Body>
inline void for_each_at(int64_t n, Body&& body) noexcept {
  int64_t i = 0;
  for (; i + kWidth<V> <= n; i += kWidth<V>)
    body([](const float* p) { return load<V>(p); }, [](float* p, V v) { store(p, v); }, i);
  if (const int64_t rest = n - i; rest > 0)
    body([=](const float* p) { return load_part(p, rest, V{}); }, [=](float* p, V v) { store_part(p, rest, v); }, i);
}

// y[i] = f(x[i])
template <class V, class F>
inline void for_each(const float* x, float* y, int64_t n, F&& f) noexcept {
  for_each_at<V>(n, [&](auto from, auto to, int64_t i) { to(y + i, f(from(x + i))); });
}

// body(v, k) for each vector of a row in kLanes lanes, which are those from k * kWidth on; `padding` behind its end.
template <class V, int64_t kLanes, class Body>
inline void for_each_lane(const float* x, int64_t n, float padding, Body&& body) noexcept {
  constexpr int64_t kVectors = kLanes / kWidth<V>;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int64_t k = 0; k < kVectors; ++k) body(load<V>(x + i + k * kWidth<V>), k);
  for (int64_t k = 0; k < kVectors; ++k, i += kWidth<V>)
    if (i < n) body(load_part(x + i, n - i < kWidth<V> ? n - i : kWidth<V>, all<V>(padding)), k);
}

// A row's elements in lanes.
template <class V, int64_t kLanes>
struct Lanes {
  static constexpr int64_t kVectors = kLanes / kWidth<V>;
  V part[kVectors];

  explicit Lanes(float value) noexcept {
    for (V& v : part) v = all<V>(value);
  }
  void add(const Lanes& other) noexcept {
    for (int64_t k = 0; k < kVectors; ++k) part[k] = part[k] + other.part[k];
  }
  // The second half joins the first, until there is one lane.
  template <class Combine>
  float folded(Combine&& combine) noexcept {
    for (int64_t half = kVectors / 2; half > 0; half /= 2)
      for (int64_t k = 0; k < half; ++k) part[k] = combine(part[k], part[k + half]);
    float at[kWidth<V>];
    store(at, part[0]);
    for (int64_t half = kWidth<V> / 2; half > 0; half /= 2)
      for (int64_t k = 0; k < half; ++k) at[k] = combine(at[k], at[k + half]);
    return at[0];
  }
};

// The sum of term(x), groups of kGroup one after another; of `padding` it is 0.
template <class V, int64_t kLanes, class Term>
inline float sum_of(const float* x, int64_t n, float padding, Term&& term) noexcept {
  Lanes<V, kLanes> total(0.0f);
  for (int64_t i = 0; i < n; i += kGroup) {
    Lanes<V, kLanes> group(0.0f);
    for_each_lane<V, kLanes>(x + i, n - i < kGroup ? n - i : kGroup, padding,
                             [&](V v, int64_t k) { group.part[k] = group.part[k] + term(v); });
    total.add(group);
  }
  return total.folded(kAdd);
}

}  // namespace
}  // namespace qfx::float_ops
