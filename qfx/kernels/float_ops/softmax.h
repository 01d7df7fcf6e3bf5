#pragma once
// Softmax of rows and of columns on lanes of any width, as kernels.h defines it.
#include "core/functions.h"
#include "float_ops/loops.h"

namespace qfx::float_ops {
namespace {

// A row's elements in kFloatLanes lanes.
template <class V>
struct Lanes {
  static constexpr int64_t kVectors = kFloatLanes / kWidth<V>;
  V part[kVectors];

  explicit Lanes(float value) noexcept {
    for (V& v : part) v = all<V>(value);
  }
  // part = combine(part, term(x)); `padding` stands behind a row's last element.
  template <class Term, class Combine>
  void take(const float* x, int64_t n, float padding, Term&& term, Combine&& combine) noexcept {
    int64_t i = 0;
    for (; i + kFloatLanes <= n; i += kFloatLanes)
      for (int64_t k = 0; k < kVectors; ++k) part[k] = combine(part[k], term(load<V>(x + i + k * kWidth<V>)));
    for (int64_t k = 0; i < n; ++k, i += kWidth<V>) {
      const int64_t count = n - i < kWidth<V> ? n - i : kWidth<V>;
      part[k] = combine(part[k], term(load_part(x + i, count, all<V>(padding))));
    }
  }
  template <class Combine>
  float result(Combine&& combine) const noexcept {
    float at[kFloatLanes];
    for (int64_t k = 0; k < kVectors; ++k) store(at + k * kWidth<V>, part[k]);
    return folded(at, combine);
  }
};

constexpr auto kMost = [](auto a, auto b) noexcept { return most(a, b); };

template <class V>
inline float highest(const float* x, int64_t n) noexcept {
  Lanes<V> lanes(-kInfinity);
  lanes.take(x, n, -kInfinity, [](V v) { return v; }, kMost);
  return lanes.result(kMost);
}

template <class V, class Term>
inline float sum_of(const float* x, int64_t n, float padding, Term&& term) noexcept {
  Lanes<V> total(0.0f);
  for (int64_t i = 0; i < n; i += kGroup) {
    Lanes<V> group(0.0f);
    group.take(x + i, n - i < kGroup ? n - i : kGroup, padding, term, kAdd);
    for (int64_t k = 0; k < Lanes<V>::kVectors; ++k) total.part[k] = total.part[k] + group.part[k];
  }
  return total.result(kAdd);
}

template <class V>
inline void softmax_row(const float* x, float* y, int64_t n, bool log) noexcept {
  const float top = highest<V>(x, n);
  const auto power = [=](V v) { return exp_below(v - top); };
  if (log) {
    const float shift = log_of(sum_of<V>(x, n, -kInfinity, power));
    return for_each<V>(x, y, n, [=](V v) { return (v - top) - shift; });
  }
  for_each<V>(x, y, n, power);
  const float factor = 1.0f / sum_of<V>(y, n, 0.0f, [](V v) { return v; });
  for_each<V>(y, y, n, [=](V v) { return v * factor; });
}

// The sums of kWidth columns.
template <class V, class Term>
inline V column_sums(const float* x, int64_t n, int64_t stride, Term&& term) noexcept {
  V total[kFloatLanes] = {};
  for (int64_t first = 0; first < n; first += kGroup) {
    V group[kFloatLanes] = {};
    const int64_t last = n - first < kGroup ? n : first + kGroup;
    for (int64_t i = first; i < last; ++i) {
      V& lane = group[i % kFloatLanes];
      lane = lane + term(load<V>(x + i * stride));
    }
    for (int64_t k = 0; k < kFloatLanes; ++k) total[k] = total[k] + group[k];
  }
  return folded(total, kAdd);
}

template <class V>
inline void softmax_column(const float* x, float* y, int64_t n, int64_t stride, bool log) noexcept {
  V top = all<V>(-kInfinity);
  for (int64_t i = 0; i < n; ++i) top = most(top, load<V>(x + i * stride));
  const auto power = [=](V v) { return exp_below(v - top); };
  if (log) {
    const V shift = log_of(column_sums<V>(x, n, stride, power));
    for (int64_t i = 0; i < n; ++i) store(y + i * stride, (load<V>(x + i * stride) - top) - shift);
    return;
  }
  for (int64_t i = 0; i < n; ++i) store(y + i * stride, power(load<V>(x + i * stride)));
  const V factor = 1.0f / column_sums<V>(y, n, stride, [](V v) { return v; });
  for (int64_t i = 0; i < n; ++i) store(y + i * stride, load<V>(y + i * stride) * factor);
}

template <class V>
inline void softmax_columns(const float* x, float* y, int64_t n, int64_t stride, int64_t columns, bool log) noexcept {
  int64_t c = 0;
  for (; c + kWidth<V> <= columns; c += kWidth<V>) softmax_column<V>(x + c, y + c, n, stride, log);
  for (; c < columns; ++c) softmax_column<float>(x + c, y + c, n, stride, log);
}

}  // namespace
}  // namespace qfx::float_ops
