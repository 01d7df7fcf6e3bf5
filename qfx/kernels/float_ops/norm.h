#pragma once
// Norms of rows on lanes of any width, as kernels.h defines them: D is a vector of doubles, or one, and F as many
// floats.
#include "core/lanes.h"
#include "float_ops/loops.h"

namespace qfx::float_ops {
namespace {

template <class D>
inline D doubles(const double* from) noexcept {
  D d;
  std::memcpy(&d, from, sizeof d);
  return d;
}

// The sum of term(x[i]).
template <class D, class Term>
inline double double_sum(const float* x, int64_t n, Term&& term) noexcept {
  constexpr int64_t kVectors = kDoubleLanes / kDoubles<D>;
  D part[kVectors] = {};
  int64_t i = 0;
  for (; i + kDoubleLanes <= n; i += kDoubleLanes)
    for (int64_t k = 0; k < kVectors; ++k) part[k] = part[k] + term(widened<D>(x + i + k * kDoubles<D>));
  double at[kDoubleLanes];
  std::memcpy(at, part, sizeof at);
  for (int64_t k = 0; i < n; ++i, ++k) at[k] += term(static_cast<double>(x[i]));
  return folded(at, kAdd);
}

// y[i] = float32(f(x[i], i)), where f takes the first of as many elements.
template <class D, class Function>
inline void for_each_double(const float* x, float* y, int64_t n, Function&& f) noexcept {
  int64_t i = 0;
  for (; i + kDoubles<D> <= n; i += kDoubles<D>) store_narrowed<D>(y + i, f(widened<D>(x + i), i));
  for (; i < n; ++i) y[i] = static_cast<float>(f(static_cast<double>(x[i]), i));
}

template <class D>
inline void normalize_row(const float* x, float* y, int64_t n, double eps, const double* weight,
                          const double* bias) noexcept {
  const double count = static_cast<double>(n), mean = double_sum<D>(x, n, [](auto v) { return v; }) / count;
  const double square = double_sum<D>(x, n, [=](auto v) { return (v - mean) * (v - mean); });
  const double scale = 1.0 / __builtin_sqrt(square / count + eps);
  for_each_double<D>(x, y, n, [=](auto v, int64_t i) {
    using T = decltype(v);
    return ((v - mean) * scale) * doubles<T>(weight + i) + doubles<T>(bias + i);
  });
}

template <class D>
inline void rms_row(const float* x, float* y, int64_t n, double eps, const double* weight) noexcept {
  const double square = double_sum<D>(x, n, [](auto v) { return v * v; });
  const double scale = 1.0 / __builtin_sqrt(square / static_cast<double>(n) + eps);
  for_each_double<D>(x, y, n, [=](auto v, int64_t i) { return (v * scale) * doubles<decltype(v)>(weight + i); });
}

}  // namespace
}  // namespace qfx::float_ops
