#pragma once
// The functions of pointwise.inc on lanes of any width, and the loop that they share. NaN stays NaN, except where a
// comparison decides alone: in sign.
#include "core/functions.h"
#include "float_ops/loops.h"

namespace qfx::float_ops {
namespace {

constexpr float kGelu = 1.5957691216057308f;        // 2 sqrt(2 / pi)
constexpr float kGeluCubed = 0.07135481627260026f;  // 0.044715 of that
constexpr float kSeluAlpha = 1.6732632423543772f;
constexpr float kSeluScale = 1.0507009873554805f;

template <class V>
inline V elu_of(V x, float alpha) noexcept {
  return x > all<V>(0.0f) ? x : expm1_below(x) * alpha;
}
// log(1 + e^x)
template <class V>
inline V softplus_of(V x) noexcept {
  return (x > all<V>(0.0f) ? x : all<V>(0.0f)) + log1p_of(exp_below(-magnitude(x)));
}
// With w = e^x, tanh(log(1 + w)) = w (w + 2) / (w (w + 2) + 2), and so with 1 / w, of which one is 1 at most.
template <class V>
inline V mish_of(V x) noexcept {
  const auto negative = x < all<V>(0.0f);
  const V e = exp_below(-magnitude(x));
  const V p = negative ? e * (e + 2.0f) : (e + e) + 1.0f;
  return x * (p / (p + (negative ? all<V>(2.0f) : (e + e) * e)));
}
template <class V>
inline V clamp_of(V x, float low, float high) noexcept {
  const V y = x < all<V>(low) ? all<V>(low) : x;
  return y > all<V>(high) ? all<V>(high) : y;
}
template <class V>
inline V gelu_by_tanh(V x) noexcept {
  return times_sigmoid(x, x * ((x * x) * kGeluCubed + kGelu));
}

template <class V>
inline V floor_of(V x) noexcept {
  const V y = nearest(x);
  return with_sign(y > x ? y - 1.0f : y, x);
}

template <class V>
inline void pointwise(PointwiseFunction function, const float* args, const float* from, float* to, int64_t n) noexcept {
  const float a = args[0], b = args[1];
  const V zero = all<V>(0.0f), one = all<V>(1.0f);
  switch (function) {
#define QFX_POINTWISE(name, arguments, expression) \
  case PointwiseFunction::name:                    \
    return for_each<V>(from, to, n, [=](V x) { return expression; });
#include "float_ops/pointwise.inc"
#undef QFX_POINTWISE
  }
}

}  // namespace
}  // namespace qfx::float_ops
