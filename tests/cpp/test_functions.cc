// The functions of core/functions.h against float64, at every 31st float32 of a range.
#include "core/functions.h"

#include <cmath>
#include <limits>

#include "harness.h"

using namespace qfx;

namespace {

float float_of(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
uint32_t bits_of(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

// |y - exact| in units of the last place of `exact` as a float; those of 2^-126 below it.
double distance(float y, double exact) {
  const float nearest = static_cast<float>(exact);
  if (y == nearest || (std::isnan(y) && std::isnan(exact))) return 0.0;
  if (!std::isfinite(y) || !std::isfinite(nearest)) return INFINITY;
  const int exponent = std::max(std::ilogb(exact), -126);
  return std::fabs(static_cast<double>(y) - exact) / std::ldexp(1.0, exponent - 23);
}

// From `first` to `last`, which are of one sign.
template <class Value, class Exact>
void check_within(const char* name, float first, float last, double bound, Value&& value, Exact&& exact) {
  for (uint32_t bits = bits_of(std::fabs(first)); bits <= bits_of(std::fabs(last)); bits += 31) {
    const float x = std::copysign(float_of(bits), last);
    const double off = distance(value(x), exact(static_cast<double>(x)));
    if (!(off <= bound))
      throw qfx::test::Failure(std::string(name) + " of " + std::to_string(x) + " is off by " + std::to_string(off));
  }
}

double gelu(double x) {
  return x * std::erfc(-x * 0.70710678118654752440) / 2;
}

}  // namespace

TEST(functions_are_within_their_bounds) {
  const auto e = [](double x) { return std::exp(x); };
  const auto em = [](double x) { return std::expm1(x); };
  for (const float sign : {1.0f, -1.0f}) {
    const float tiny = sign * 1e-12f;
    check_within("exp", tiny, sign * 87.3365f, 1.0, exp_of<float>, e);
    check_within("expm1", tiny, sign * 87.3365f, 2.0, expm1_of<float>, em);
    check_within("tanh", tiny, sign * 12.0f, 3.0, tanh_of<float>, [](double x) { return std::tanh(x); });
    check_within("erf", tiny, sign * 12.0f, 4.0, erf_of<float>, [](double x) { return std::erf(x); });
  }
  check_within("exp", 87.0f, 89.5f, 1.0, exp_of<float>, e);
  check_within("exp_below", -1e-12f, -87.3365f, 1.0, exp_below<float>, e);
  check_within("expm1_below", -1e-12f, -200.0f, 2.0, expm1_below<float>, em);
  check_within("log1p", 1e-12f, 1.0f, 2.0, log1p_of<float>, [](double x) { return std::log1p(x); });
  check_within("log", 1e-45f, 3e38f, 2.0, log_of<float>, [](double x) { return std::log(x); });
  check_within("gelu", 1e-12f, 12.0f, 2.0, gelu_of<float>, gelu);
  check_within("gelu", -1e-12f, -2.0f, 12.0, gelu_of<float>, gelu);
  check_within("gelu", -2.0f, -6.0f, 100.0, gelu_of<float>, gelu);
}

TEST(functions_of_infinities_nan_and_what_underflows) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const auto& f : {exp_of<float>, exp_below<float>, expm1_of<float>, expm1_below<float>, log_of<float>,
                        log1p_of<float>, tanh_of<float>, erf_of<float>, gelu_of<float>, nearest<float>})
    CHECK(std::isnan(f(nan)));
  CHECK_EQ(exp_of(kInfinity), kInfinity);
  for (const float x : {-kInfinity, -1e30f, -104.0f, -87.7f}) {
    CHECK_EQ(exp_of(x), 0.0f);
    CHECK_EQ(exp_below(x), 0.0f);
    CHECK_EQ(expm1_of(x), -1.0f);
    CHECK_EQ(expm1_below(x), -1.0f);
    CHECK_EQ(tanh_of(x), -1.0f);
    CHECK_EQ(erf_of(-x), 1.0f);
  }
  CHECK_EQ(expm1_of(kInfinity), kInfinity);
  CHECK_EQ(log_of(0.0f), -kInfinity);
  CHECK_EQ(log_of(kInfinity), kInfinity);
  CHECK(std::isnan(log_of(-1.0f)));
  CHECK_EQ(gelu_of(kInfinity), kInfinity);
  CHECK_EQ(gelu_of(-100.0f), 0.0f);
  CHECK(std::isnan(gelu_of(-kInfinity)));  // as torch
  CHECK(std::signbit(tanh_of(-0.0f)));
  CHECK(std::signbit(erf_of(-0.0f)));
}
