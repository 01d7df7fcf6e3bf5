#pragma once
// What the levels' kernels of cells are made of, on lanes of any width (core/lanes.h).
#include "core/lanes.h"
#include "recurrent/kernels.h"

namespace qfx::recurrent {
namespace {

template <class V>
struct Fraction {
  V p, q;
};

// tanh(x) = x P(x^2) / Q(x^2), fitted by least maximal relative error up to kLimit, where P and Q are equal in float32;
// beyond, tanh is 1. Within 2^-21 of tanh, relative. NaN stays NaN.
constexpr float kLimit = 7.7021604f;
constexpr float kP[] = {1.1223048204556108e-05f, 0.0029320293106138706f, 0.1290798932313919f, 0.9999998211860657f};
constexpr float kQ[] = {2.393595650573843e-07f, 0.00023598337429575622f, 0.023737873882055283f, 0.4624117910861969f,
                        1.0f};

template <class V>
inline V clamped(V x, float limit) noexcept {
  const V high = all<V>(limit);
  return most(-high, least(high, x));
}

template <class V>
inline Fraction<V> tanh_of(V x) noexcept {
  x = clamped(x, kLimit);
  const V s = x * x;
  const V p = ((s * kP[0] + kP[1]) * s + kP[2]) * s + kP[3];
  const V q = (((s * kQ[0] + kQ[1]) * s + kQ[2]) * s + kQ[3]) * s + kQ[4];
  return {p * x, q};
}

// 1 / (1 + exp(-x)) = (1 + tanh(x / 2)) / 2, with the powers of two in the coefficients: within 2^-21, absolute.
template <class V>
inline Fraction<V> sigmoid_of(V x) noexcept {
  x = clamped(x, 2 * kLimit);
  const V s = x * x;
  const V p = ((s * (kP[0] / 256) + kP[1] / 64) * s + kP[2] / 16) * s + kP[3] / 4;
  const V q = (((s * (kQ[0] / 512) + kQ[1] / 128) * s + kQ[2] / 32) * s + kQ[3] / 8) * s + kQ[4] / 2;
  return {q + p * x, q + q};
}

template <class V>
inline V value(const Fraction<V>& f) noexcept {
  return f.p / f.q;
}

// One division for two.
template <class V>
inline V product(const Fraction<V>& a, const Fraction<V>& b) noexcept {
  return (a.p * b.p) / (a.q * b.q);
}

template <class V, class Unit>
inline void for_each_unit(const CellBlock& b, int64_t units, Unit&& unit) noexcept {
  for (int64_t r = 0; r < b.rows; ++r)
    for (int64_t u = 0; u < units; u += kWidth<V>)
      unit(b.input + r * b.input_stride + u, b.recurrent + r * b.recurrent_stride + u, b.state + r * b.state_stride + u,
           b.y + r * b.y_stride + u);
}

// c' = sigmoid(f) * c + sigmoid(i) * tanh(g),  y = sigmoid(o) * tanh(c')
template <class V>
inline void lstm(const CellBlock& block) noexcept {
  for_each_unit<V>(block, kLanes, [](const float* x, const float* h, float* state, float* y) {
    const auto gate = [&](int64_t g) { return load<V>(x + g * kLanes) + load<V>(h + g * kLanes); };
    const V kept = value(sigmoid_of<V>(gate(1))) * load<V>(state);
    const V c = kept + product(sigmoid_of<V>(gate(0)), tanh_of<V>(gate(2)));
    store(state, c);
    store(y, product(sigmoid_of<V>(gate(3)), tanh_of<V>(c)));
  });
}

// n = tanh(x_n + sigmoid(r) * h_n),  y = n + sigmoid(z) * (h - n)
template <class V>
inline void gru(const CellBlock& block) noexcept {
  for_each_unit<V>(block, kLanes, [](const float* x, const float* h, float* state, float* y) {
    const auto gate = [&](int64_t g) { return load<V>(x + g * kLanes) + load<V>(h + g * kLanes); };
    const V r = value(sigmoid_of<V>(gate(0))), z = value(sigmoid_of<V>(gate(1)));
    const V n = value(tanh_of<V>(load<V>(x + 2 * kLanes) + r * load<V>(h + 2 * kLanes)));
    store(y, n + z * (load<V>(state) - n));
  });
}

template <class V>
inline void rnn_tanh(const CellBlock& block) noexcept {
  for_each_unit<V>(block, kVectors * kLanes, [](const float* x, const float* h, float*, float* y) {
    store(y, value(tanh_of<V>(load<V>(x) + load<V>(h))));
  });
}

template <class V>
inline void rnn_relu(const CellBlock& block) noexcept {
  for_each_unit<V>(block, kVectors * kLanes, [](const float* x, const float* h, float*, float* y) {
    const V v = load<V>(x) + load<V>(h);
    store(y, v < all<V>(0.0f) ? all<V>(0.0f) : v);
  });
}

}  // namespace
}  // namespace qfx::recurrent
