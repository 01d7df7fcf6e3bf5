#pragma once
// What the levels' kernels of cells are made of, on lanes of any width (core/lanes.h).
#include "core/functions.h"
#include "recurrent/kernels.h"

namespace qfx::recurrent {
namespace {

// tanh(x) / (1 + e^-t), by one division: within 6 ulp.
template <class V>
inline V tanh_times_sigmoid(V x, V t) noexcept {
  const V away = expm1_below(magnitude(x) * -2.0f), e = exp_below(-magnitude(t));
  const V top = with_sign(away, x);
  return (t < all<V>(0.0f) ? top * e : top) / ((away + 2.0f) * (e + 1.0f));
}

template <class V, class Unit>
inline void for_each_unit(const CellBlock& b, int64_t units, Unit&& unit) noexcept {
  for (int64_t r = 0; r < b.rows; ++r)
    for (int64_t u = 0; u < units; u += kWidth<V>)
      unit(b.input + r * b.input_stride + u, b.recurrent + r * b.recurrent_stride + u, b.state + r * b.state_stride + u,
           b.y + r * b.y_stride + u);
}

// c' = sigmoid(f) * c + sigmoid(i) * tanh(g),  y = sigmoid(o) * tanh(c'), where a product with a sigmoid is one
// function
template <class V>
inline void lstm(const CellBlock& block) noexcept {
  for_each_unit<V>(block, kLanes, [](const float* x, const float* h, float* state, float* y) {
    const auto gate = [&](int64_t g) { return load<V>(x + g * kLanes) + load<V>(h + g * kLanes); };
    const V c = times_sigmoid(load<V>(state), gate(1)) + tanh_times_sigmoid(gate(2), gate(0));
    store(state, c);
    store(y, tanh_times_sigmoid(c, gate(3)));
  });
}

// n = tanh(x_n + sigmoid(r) * h_n),  y = n + sigmoid(z) * (h - n)
template <class V>
inline void gru(const CellBlock& block) noexcept {
  for_each_unit<V>(block, kLanes, [](const float* x, const float* h, float* state, float* y) {
    const auto gate = [&](int64_t g) { return load<V>(x + g * kLanes) + load<V>(h + g * kLanes); };
    const V n = tanh_of(load<V>(x + 2 * kLanes) + times_sigmoid(load<V>(h + 2 * kLanes), gate(0)));
    store(y, n + times_sigmoid(load<V>(state) - n, gate(1)));
  });
}

template <class V>
inline void rnn_tanh(const CellBlock& block) noexcept {
  for_each_unit<V>(block, kVectors * kLanes, [](const float* x, const float* h, float*, float* y) {
    store(y, tanh_of(load<V>(x) + load<V>(h)));
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
