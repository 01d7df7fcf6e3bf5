#pragma once
// Softmax of rows and of columns on lanes of any width, as kernels.h defines it.
#include "core/functions.h"
#include "float_ops/loops.h"

namespace qfx::float_ops {
namespace {

constexpr auto kMost = [](auto a, auto b) noexcept { return most(a, b); };

template <class V>
inline float highest(const float* x, int64_t n) noexcept {
  Lanes<V, kSoftmaxLanes> lanes(-kInfinity);
  for_each_lane<V, kSoftmaxLanes>(x, n, -kInfinity, [&](V v, int64_t k) { lanes.part[k] = most(lanes.part[k], v); });
  return lanes.folded(kMost);
}

template <class V>
inline void softmax_row(const float* x, float* y, int64_t n, bool log) noexcept {
  const float top = highest<V>(x, n);
  const auto power = [=](V v) { return exp_below(v - top); };
  if (log) {
    const float shift = log_of(sum_of<V, kSoftmaxLanes>(x, n, -kInfinity, power));
    return for_each<V>(x, y, n, [=](V v) { return (v - top) - shift; });
  }
  for_each<V>(x, y, n, power);
  const float factor = 1.0f / sum_of<V, kSoftmaxLanes>(y, n, 0.0f, [](V v) { return v; });
  for_each<V>(y, y, n, [=](V v) { return v * factor; });
}

// The sums of kWidth columns.
template <class V, class Term>
inline V column_sums(const float* x, int64_t n, int64_t stride, Term&& term) noexcept {
  V total[kSoftmaxLanes] = {};
  for (int64_t first = 0; first < n; first += kGroup) {
    V group[kSoftmaxLanes] = {};
    const int64_t last = n - first < kGroup ? n : first + kGroup;
    for (int64_t i = first; i < last; ++i) {
      V& lane = group[i % kSoftmaxLanes];
      lane = lane + term(load<V>(x + i * stride));
    }
    for (int64_t k = 0; k < kSoftmaxLanes; ++k) total[k] = total[k] + group[k];
  }
  for (int64_t half = kSoftmaxLanes / 2; half > 0; half /= 2)
    for (int64_t k = 0; k < half; ++k) total[k] = total[k] + total[k + half];
  return total[0];
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
