#pragma once
// Loops over floats on lanes of any width, and how lanes become one.
#include "core/lanes.h"
#include "float_ops/kernels.h"

namespace qfx::float_ops {
namespace {

constexpr auto kAdd = [](auto a, auto b) noexcept { return a + b; };

// One value of many: combine(at[k], at[k + half]) for each k of the first half, then of that by halves.
template <class T, size_t kCount, class Combine>
inline T folded(T (&at)[kCount], Combine&& combine) noexcept {
  for (size_t half = kCount / 2; half > 0; half /= 2)
    for (size_t k = 0; k < half; ++k) at[k] = combine(at[k], at[k + half]);
  return at[0];
}

// y[i] = f(x[i])
template <class V, class F>
inline void for_each(const float* x, float* y, int64_t n, F&& f) noexcept {
  int64_t i = 0;
  for (; i + kWidth<V> <= n; i += kWidth<V>) store(y + i, f(load<V>(x + i)));
  if (i < n) store_part(y + i, n - i, f(load_part(x + i, n - i, V{})));
}

}  // namespace
}  // namespace qfx::float_ops
