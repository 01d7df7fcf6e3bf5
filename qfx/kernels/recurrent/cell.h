#pragma once
// What the levels' kernels of cells are made of, for a vector of floats of any width or one float: the same operations
// on every lane, each rounded on its own, so that every level computes the same bits. Everything has internal linkage.
#include <cstring>

#include "recurrent/kernels.h"

namespace qfx::recurrent {
namespace {

template <class V>
inline V load(const float* from) noexcept {
  V v;
  std::memcpy(&v, from, sizeof v);
  return v;
}
template <class V>
inline void store(float* to, V v) noexcept {
  std::memcpy(to, &v, sizeof v);
}
template <class V>
inline V all(float value) noexcept {
  return V{} + value;
}
template <class V>
inline constexpr int64_t kWidth = static_cast<int64_t>(sizeof(V) / sizeof(float));

// Where one is NaN, and of two zeros, the second: as the instructions of x86, for which its levels specialize them.
template <class V>
inline V least(V a, V b) noexcept {
  return a < b ? a : b;
}
template <class V>
inline V most(V a, V b) noexcept {
  return a > b ? a : b;
}

inline void meet_one(float v, float& low, float& high) noexcept {
  low = least(v, low);
  high = most(v, high);
}

// The s32 whose bits are given, as float.
template <class V, class I>
inline V signed_to_float(I bits) noexcept {
  if constexpr (std::is_same_v<V, float>) {
    return static_cast<float>(static_cast<int32_t>(bits));
  } else {
    typedef int32_t Signed __attribute__((vector_size(sizeof(I))));
    return __builtin_convertvector((Signed)bits, V);
  }
}

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

// The end of a product: from `rows` accumulators each [rows][vectors * kLanes].
template <class V, class I>
inline void finish(const Panel& panel, const Codes& codes, int64_t rows, const int32_t* acc, float* y,
                   int64_t y_stride) noexcept {
  const auto load_ints = [](const int32_t* from) {
    I v;
    std::memcpy(&v, from, sizeof v);
    return v;
  };
  const int64_t columns = panel.vectors * kLanes;
  const auto x_zero_point = static_cast<uint32_t>(codes.zero_point);
  for (int64_t o = 0; o < columns; o += kWidth<V>) {
    const I offset = load_ints(panel.sum + o) * x_zero_point;
    const V m = load<V>(panel.scale + o) * codes.scale, bias = load<V>(panel.bias + o);
    for (int64_t r = 0; r < rows; ++r) {
      I sum = load_ints(acc + r * columns + o) - offset;
      if (panel.zero_point != nullptr) sum -= load_ints(panel.zero_point + o) * static_cast<uint32_t>(codes.sum[r]);
      store(y + r * y_stride + o, signed_to_float<V>(sum) * m + bias);
    }
  }
}

}  // namespace
}  // namespace qfx::recurrent
