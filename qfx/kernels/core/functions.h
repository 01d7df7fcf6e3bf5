#pragma once
// exp, log, tanh, erf and what is made of them, on lanes of any width (lanes.h): float32 operations in one order, each
// rounded on its own. qfx/ops/pointwise/float32.py states the same in numpy. `python -m docs.function_coefficients`
// fits the coefficients; tests/cpp/test_functions.cc checks the bounds, in units of the last place of the float64
// value.
//
// NaN stays NaN; powers under 2^-126.5 are 0. Recurrent cells have rationals of their own (recurrent/cell.h), which are
// quicker and less exact.
#include <limits>

#include "core/lanes.h"

namespace qfx {
namespace {

constexpr float kExp[] = {0x1.6a2434p-10f, 0x1.1239e4p-7f, 0x1.5558f2p-5f, 0x1.555492p-3f, 0x1.fffffcp-2f};
constexpr float kLog[] = {0x1.1ed7d2p-2f, 0x1.1ebd0ap-2f, 0x1.99d208p-2f, 0x1.555502p-1f};
constexpr float kErf[] = {0x1.6c692ep-21f,  -0x1.db151ep-17f, 0x1.09b2d0p-13f, -0x1.44e8a0p-11f, 0x1.a2bcb0p-10f,
                          -0x1.0788b8p-14f, -0x1.3acc78p-6f,  0x1.a50bc0p-4f,  0x1.45f2c4p-1f,   0x1.20dd76p+0f};
constexpr float kGelu[] = {-0x1.7b2834p-26f, 0x1.74574ep-21f, -0x1.37faecp-17f, 0x1.1ad450p-14f, -0x1.0793e0p-12f,
                           -0x1.b688c2p-15f, 0x1.cae95cp-8f,  -0x1.addbf0p-5f,  -0x1.d63bc0p-2f, -0x1.26aed0p+0f};
constexpr float kExp2[] = {0x1.41fba0p-13f, 0x1.5f3e80p-10f, 0x1.3b2d4ep-7f,
                           0x1.c6aee8p-5f,  0x1.ebfbdcp-3f,  0x1.62e430p-1f};

constexpr float kLog2E = 0x1.715476p+0f;
constexpr float kLn2High = 0x1.63p-1f;  // few enough bits that its product with an exponent is exact
constexpr float kLn2Low = -0x1.bd0106p-13f;
constexpr float kRoundAndBias = 0x1.8p23f + 127.0f;  // added, it leaves the nearest integer in the lowest bits
constexpr float kRound = 0x1p23f;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// A polynomial by pairs of coefficients, highest first: half of Horner's roundings, and half of the wait for them.
template <class V, size_t kCount>
inline V polynomial(V x, V squared, const float (&c)[kCount]) noexcept {
  V y = kCount % 2 == 1 ? all<V>(c[0]) : x * c[0] + c[1];
  for (size_t i = 2 - kCount % 2; i < kCount; i += 2) y = y * squared + (x * c[i] + c[i + 1]);
  return y;
}

template <class V>
inline V magnitude(V x) noexcept {
  return floats<V>(ints(x) & 0x7fffffff);
}
template <class V>
inline V with_sign(V value, V sign) noexcept {
  return floats<V>((ints(value) & 0x7fffffff) | (ints(sign) & static_cast<int32_t>(0x80000000)));
}
template <class V>
inline V within(V x, float low, float high) noexcept {
  return least(all<V>(high), most(all<V>(low), x));
}

// e^x = 2^n (1 + rest), for x in -88 to 89.
template <class V>
struct Exponent {
  V biased;  // n + kRoundAndBias
  V rest;

  V power() const noexcept { return floats<V>(ints(biased) << 23); }
};
template <class V>
inline Exponent<V> exponent_of(V x) noexcept {
  const V biased = x * kLog2E + kRoundAndBias, n = biased - kRoundAndBias;
  const V r = (x - n * kLn2High) - n * kLn2Low;
  const V squared = r * r;
  return {biased, r + squared * polynomial(r, squared, kExp)};
}

// e^x for x <= 0: within 1 ulp.
template <class V>
inline V exp_below(V x) noexcept {
  const auto e = exponent_of(most(all<V>(-88.0f), x));
  return (e.rest + 1.0f) * e.power();
}

// e^x - 1 for x <= 0: within 2 ulp.
template <class V>
inline V expm1_below(V x) noexcept {
  const auto e = exponent_of(most(all<V>(-88.0f), x));
  const V power = e.power();
  return power * e.rest + (power - 1.0f);
}

// The power of a number that may be 128, as a product of two.
template <class V>
struct Halved {
  V power, factor;
};
template <class V>
inline Halved<V> halved(const Exponent<V>& e) noexcept {
  const V most_number = all<V>(kRoundAndBias + 127.0f);
  const V biased = least(most_number, e.biased);
  return {floats<V>(ints(biased) << 23), e.biased > most_number ? all<V>(2.0f) : all<V>(1.0f)};
}

// e^x: within 1 ulp.
template <class V>
inline V exp_of(V x) noexcept {
  const auto e = exponent_of(within(x, -88.0f, 89.0f));
  const auto h = halved(e);
  return ((e.rest + 1.0f) * h.power) * h.factor;
}

// e^x - 1: within 2 ulp.
template <class V>
inline V expm1_of(V x) noexcept {
  const auto e = exponent_of(within(x, -88.0f, 89.0f));
  const auto h = halved(e);
  return (h.power * e.rest + (h.power - 1.0f)) * h.factor;
}

// log((1 + z) / (1 - z)) for |z| <= 1/3.
template <class V>
inline V twice_atanh(V z) noexcept {
  const V s = z * z;
  return (z + z) + (z * s) * polynomial(s, s * s, kLog);
}

// log(1 + x) for x in 0 to 1: within 2 ulp.
template <class V>
inline V log1p_of(V x) noexcept {
  return twice_atanh(x / (x + 2.0f));
}

// The natural logarithm: within 2 ulp.
template <class V>
inline V log_of(V x) noexcept {
  constexpr int32_t kRootHalf = 0x3f3504f3;
  const V a = magnitude(x);
  const auto subnormal = a < all<V>(0x1p-126f);
  const auto i = ints(subnormal ? a * 0x1p23f : a);
  const auto e = (i - kRootHalf) >> 23;
  const V n = integer_in<V>(e) - (subnormal ? all<V>(23.0f) : all<V>(0.0f));
  const V f = floats<V>(i - (e << 23)) - 1.0f;
  const V y = n * kLn2High + (twice_atanh(f / (f + 2.0f)) + n * kLn2Low);
  const V pole = x < all<V>(0.0f) ? all<V>(std::numeric_limits<float>::quiet_NaN()) : x;  // NaN and +infinity stay
  const V edge = x == all<V>(0.0f) ? all<V>(-kInfinity) : pole;
  return x > all<V>(0.0f) ? (x < all<V>(kInfinity) ? y : edge) : edge;
}

// tanh(x) = (1 - e) / (1 + e) with e = e^-2|x|: within 3 ulp.
template <class V>
inline V tanh_of(V x) noexcept {
  const V e = expm1_below(magnitude(x) * -2.0f);
  return with_sign(e / (e + 2.0f), x);
}

// The error function: within 4 ulp.
template <class V>
inline V erf_of(V x) noexcept {
  const V far = least(all<V>(16.0f), magnitude(x));
  return with_sign(expm1_below(-(far * polynomial(far, far * far, kErf))), x);
}

// x (1 + erf(x / sqrt(2))) / 2: within 2 ulp above 0, 12 above -2, and 100 above -6, where it is under 1e-8. It is
// max(0, x) - |x| 2^y / 2 with y = log2(1 - erf(|x| / sqrt(2))), so that a negative x keeps most of its digits.
template <class V>
inline V gelu_of(V x) noexcept {
  constexpr float kNone = 11.484f;            // whose power is 0
  constexpr float kBias = kRoundAndBias - 1;  // halves the power
  const V size = magnitude(least(all<V>(32.0f), x)), t = least(all<V>(kNone), size);
  const V y = t * polynomial(t, t * t, kGelu);
  const V biased = y + kBias, rest = y - (biased - kBias);
  const V share = (rest * polynomial(rest, rest * rest, kExp2) + 1.0f) * floats<V>(ints(biased) << 23);
  return most(all<V>(0.0f), x) - size * share;
}

// x / (1 + e^-t), for t of the sign of x: no power overflows, and small results keep their digits.
template <class V>
inline V times_sigmoid(V x, V t) noexcept {
  const V e = exp_below(-magnitude(t));
  return (t < all<V>(0.0f) ? x * e : x) / (e + 1.0f);
}

// The nearest integer, ties to even, with the sign of x.
template <class V>
inline V nearest(V x) noexcept {
  const V a = magnitude(x), rounded = (a + kRound) - kRound;
  return with_sign(a < all<V>(kRound) ? rounded : a, x);
}

}  // namespace
}  // namespace qfx
