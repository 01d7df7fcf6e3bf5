#include <cmath>
#include <functional>
#include <limits>
#include <stdexcept>

#include "float_ops/float_ops.h"
#include "kernel_check.h"

using namespace qfx;
using namespace qfx::test;

namespace {

// Equal, or neighbours: a float64 evaluation that is off by a few of its own ulps can only round to a neighbour.
bool nearly(float a, float b) {
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && std::isnan(b);
  return a == b || std::nextafter(a, b) == b;
}

constexpr double kUnit = 0x1p-24;  // what rounding to float32 adds at most, relative

// One thread against the reference, with what each element may be off by; several threads, every level and guard pages
// against one thread of scalar.
void check_glue(const Plan& plan, const std::vector<std::vector<float>>& inputs, const std::vector<float>& expected,
                const std::string& what, const std::vector<double>& allowed = {}) {
  std::vector<const void*> in;
  std::vector<Bytes> bytes;
  for (const auto& input : inputs) {
    in.push_back(input.data());
    bytes.push_back(bytes_of(input));
  }
  std::vector<float> y(expected.size());
  run(*plan(Isa::scalar), in, {y.data()}, 1);
  for (size_t i = 0; i < y.size(); ++i)
    if (!nearly(y[i], expected[i]) && !(std::fabs(static_cast<double>(y[i]) - static_cast<double>(expected[i])) <=
                                        (allowed.empty() ? 0.0 : allowed[i])))
      throw Failure(what + ": element " + std::to_string(i) + " is " + shown(y[i]) + ", not " + shown(expected[i]));
  check_on_every_isa(plan, bytes, y, what);
}

}  // namespace

namespace {

struct Softmax {
  std::vector<float> y;
  std::vector<double> allowed;
};

// Of one row of n numbers, `stride` apart, at the same places of `to`. What float32 may be off by: the differences that
// are raised, by d units for a power of -d; the power, by 2.2; a sum of positive numbers in lanes, by as many as a lane
// has additions, and 10 for lanes and groups; quotient and product; powers that are left out.
void softmax_of_row(const float* x, int64_t n, int64_t stride, bool log, Softmax& to, size_t at) {
  long double sum = 0, most = -INFINITY;
  for (int64_t k = 0; k < n; ++k) most = std::max<long double>(most, x[k * stride]);
  for (int64_t k = 0; k < n; ++k) sum += std::exp(static_cast<long double>(x[k * stride]) - most);
  const double additions = static_cast<double>(std::min<int64_t>(n / 16, 64) + n / 1024 + 10);
  for (int64_t k = 0; k < n; ++k) {
    const long double d = static_cast<long double>(x[k * stride]) - most, shift = std::log(sum);
    const size_t i = at + static_cast<size_t>(k * stride);
    to.y[i] = static_cast<float>(log ? d - shift : std::exp(d) / sum);
    const double units = static_cast<double>(-d) + additions + 5;
    to.allowed[i] = log ? kUnit * (units + 6 * static_cast<double>(shift - d))
                        : kUnit * units * static_cast<double>(to.y[i]) + 0x1p-126;
  }
}

}  // namespace

TEST(float_ops_softmax_and_log_softmax) {
  Rng rng(60);
  std::vector<Dims> shapes{{0, 3, 2}, {2, 0, 3}, {1, 1000, 1}, {1, 1023, 1}, {2, 2049, 1}, {1, 3000, 17}, {1, 5, 200}};
  for (int64_t n = 1; n <= 35; ++n) shapes.insert(shapes.end(), {{3, n, 1}, {2, n, 5}, {1, 7, n}});
  for (const Dims& shape : shapes) {
    const int64_t outer = shape[0], n = shape[1], inner = shape[2];
    const auto x = random_floats(rng, outer * n * inner, -90, 90);
    for (bool log : {false, true}) {
      Softmax expected{std::vector<float>(x.size()), std::vector<double>(x.size())};
      for (int64_t o = 0; o < outer; ++o)
        for (int64_t i = 0; i < inner; ++i) {
          const auto at = static_cast<size_t>(o * n * inner + i);
          softmax_of_row(x.data() + at, n, inner, log, expected, at);
        }
      check_glue([&](Isa isa) { return plan_softmax(outer, n, inner, log, isa); }, {x}, expected.y,
                 "softmax " + shown_dims(shape), expected.allowed);
    }
  }
}

TEST(float_ops_softmax_of_infinities_and_nan_is_torchs) {
  // In rows of 20: nothing but -infinity, a NaN, +infinity; one finite number beside -infinity.
  const float none = -INFINITY;
  for (const int64_t inner : {1, 40}) {
    std::vector<float> x(static_cast<size_t>(4 * 20 * inner), none), y(x.size(), NAN);
    for (int64_t i = 0; i < inner; ++i) {
      const auto at = [&](int64_t row, int64_t k) { return static_cast<size_t>((row * 20 + k) * inner + i); };
      x[at(1, 17)] = NAN;
      for (int64_t k = 0; k < 20; ++k) x[at(2, k)] = static_cast<float>(k);
      x[at(2, 3)] = INFINITY;
      x[at(3, 18)] = -3.0f;
      for (int64_t k = 0; k < 20; ++k) y[at(3, k)] = k == 18 ? 1.0f : 0.0f;
    }
    for (Isa isa : isas())
      for (bool log : {false, true}) {
        std::vector<float> got(x.size());
        run(*plan_softmax(4, 20, inner, log, isa), {x.data()}, {got.data()}, 1);
        for (size_t i = 0; i < y.size(); ++i) CHECK(nearly(got[i], log ? std::log(y[i]) : y[i]));
      }
  }
}

TEST(float_ops_causal_softmax) {
  Rng rng(66);
  // Square, wide, tall, one row, one column, nothing; the matrices of a batch begin anew.
  for (const Dims& shape : {Dims{3, 5, 5}, Dims{2, 3, 9}, Dims{2, 9, 4}, Dims{4, 1, 6}, Dims{2, 6, 1}, Dims{0, 3, 3},
                            Dims{1, 200, 200}, Dims{2, 0, 3}, Dims{2, 3, 0}}) {
    const int64_t rows = shape[0] * shape[1], period = shape[1], n = shape[2];
    auto x = random_floats(rng, rows * n, -90, 90);
    Softmax expected{std::vector<float>(x.size()), std::vector<double>(x.size())};
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t kept = std::min(n, row % period + 1);
      const auto at = static_cast<size_t>(row * n);
      softmax_of_row(x.data() + at, kept, 1, false, expected, at);
      for (int64_t k = kept; k < n; ++k)
        x[at + static_cast<size_t>(k)] = k % 2 == 0 ? NAN : INFINITY;  // nobody reads it
    }
    check_glue([&](Isa isa) { return plan_causal_softmax(rows, period, n, isa); }, {x}, expected.y,
               "causal " + shown_dims(shape), expected.allowed);
  }
}

// Of one row in long double; `mean`: whether it is taken off. What float32 may be off by, in units: of the normalized
// value, the variance, whose sum has as many additions as a lane, halved by the root, and 8 for the rest; the same of
// 1, which the distances from the mean that are summed are on average; of the result, 2.
void norm_of_row(const std::vector<float>& x, int64_t n, bool mean, const std::vector<float>& weight,
                 const std::vector<float>& bias, std::vector<float>& y, std::vector<double>& allowed) {
  const size_t first = y.size();
  long double sum = 0, square = 0;
  for (int64_t i = 0; mean && i < n; ++i) sum += x[first + static_cast<size_t>(i)];
  for (int64_t i = 0; i < n; ++i) {
    const long double d = x[first + static_cast<size_t>(i)] - sum / n;
    square += d * d;
  }
  const double units = static_cast<double>(std::min<int64_t>(n, 1024) / 64 + n / 1024 + 8);
  for (size_t i = 0; i < static_cast<size_t>(n); ++i) {
    const long double v = (x[first + i] - sum / n) / std::sqrt(square / n + 1e-5L);
    const long double scaled = weight.empty() ? v : v * weight[i];
    y.push_back(static_cast<float>(bias.empty() ? scaled : scaled + bias[i]));
    const double from_mean = mean ? units * (weight.empty() ? 1.0 : std::fabs(double{weight[i]})) : 0.0;
    allowed.push_back(kUnit *
                      (units * std::fabs(static_cast<double>(scaled)) + from_mean + 2 * std::fabs(double{y.back()})));
  }
}

TEST(float_ops_norms_of_rows_of_every_length) {
  Rng rng(61);
  for (int64_t n : {1, 2, 7, 8, 9, 31, 32, 33, 63, 96, 384, 768, 1023, 1025, 5000})
    for (bool affine : {false, true})
      for (const double mean : {0.0, 2.0, 1000.0}) {
        const int64_t rows = 5;
        const auto x = random_floats(rng, rows * n, mean - 1, mean + 1);
        const auto weight = random_floats(rng, affine ? n : 0, -2, 2), bias = random_floats(rng, affine ? n : 0, -2, 2);
        std::vector<float> layer, rms;
        std::vector<double> layer_allowed, rms_allowed;
        for (int64_t r = 0; r < rows; ++r) {
          norm_of_row(x, n, true, weight, bias, layer, layer_allowed);
          norm_of_row(x, n, false, weight, {}, rms, rms_allowed);
        }
        const std::string what = std::to_string(n) + " of mean " + std::to_string(mean);
        check_glue([&](Isa isa) { return plan_layer_norm(rows, n, 1e-5, weight, bias, isa); }, {x}, layer,
                   "layer_norm " + what, layer_allowed);
        check_glue([&](Isa isa) { return plan_rms_norm(rows, n, 1e-5, weight, isa); }, {x}, rms, "rms_norm " + what,
                   rms_allowed);
      }
  CHECK_THROWS(std::invalid_argument, plan_layer_norm(2, 3, 1e-5, std::vector<float>(2), {}));
  CHECK_THROWS(std::invalid_argument, plan_rms_norm(2, 3, 1e-5, std::vector<float>(2)));
}

TEST(float_ops_group_norm_and_instance_norm) {
  Rng rng(62);
  for (int64_t groups : {1, 2, 6, 12}) {
    const int64_t n = 2, pixels = 11, channels = 12, width = channels / groups;
    const auto x = random_floats(rng, n * pixels * channels, -2, 5), weight = random_floats(rng, channels, -2, 2),
               bias = random_floats(rng, channels, -2, 2);
    std::vector<float> y(x.size());
    for (int64_t i = 0; i < n; ++i)
      for (int64_t c = 0; c < channels; ++c) {
        const int64_t first = c / width * width;
        const auto at = [&](int64_t p, int64_t k) { return static_cast<size_t>((i * pixels + p) * channels + k); };
        long double sum = 0, square = 0;
        for (int64_t p = 0; p < pixels; ++p)
          for (int64_t k = first; k < first + width; ++k) sum += x[at(p, k)];
        const long double mean = sum / (pixels * width);
        for (int64_t p = 0; p < pixels; ++p)
          for (int64_t k = first; k < first + width; ++k) square += (x[at(p, k)] - mean) * (x[at(p, k)] - mean);
        const long double scale = 1 / std::sqrt(square / (pixels * width) + 1e-3L);
        for (int64_t p = 0; p < pixels; ++p)
          y[at(p, c)] = static_cast<float>((x[at(p, c)] - mean) * scale * weight[static_cast<size_t>(c)] +
                                           bias[static_cast<size_t>(c)]);
      }
    check_glue([&](Isa) { return plan_group_norm(n, pixels, channels, groups, 1e-3, weight, bias); }, {x}, y,
               "group_norm " + std::to_string(groups));
  }
  CHECK_THROWS(std::invalid_argument, plan_group_norm(1, 2, 12, 5, 1e-3, {}, {}));
}

TEST(float_ops_binary_f32_broadcasts) {
  Rng rng(63);
  for (int i = 0; i < 200; ++i) {
    Dims a, b, shape;
    for (int64_t d = rng.integer(0, 4); d > 0; --d) {
      const int64_t size = rng.integer(0, 20) == 0 ? 0 : rng.integer(1, 9);
      a.push_back(rng.integer(0, 2) == 0 ? 1 : size);
      b.push_back(rng.integer(0, 2) == 0 ? 1 : size);
      shape.push_back(a.back() == 1 ? b.back() : a.back());
    }
    const auto x = random_floats(rng, element_count(a), -5, 5), z = random_floats(rng, element_count(b), -5, 5);
    for (int op = 0; op < 4; ++op) {
      std::vector<float> y;
      for (int64_t k = 0; k < element_count(shape); ++k) {
        const Dims at = unravel(k, shape);
        int64_t u = 0, v = 0;
        for (size_t d = 0; d < at.size(); ++d) {
          u = u * a[d] + (a[d] == 1 ? 0 : at[d]);
          v = v * b[d] + (b[d] == 1 ? 0 : at[d]);
        }
        const float p = x[static_cast<size_t>(u)], q = z[static_cast<size_t>(v)];
        y.push_back(op == 0 ? p + q : (op == 1 ? p - q : (op == 2 ? p * q : p / q)));
      }
      check_on_every_isa([&](Isa) { return plan_binary_f32(static_cast<FloatBinaryOp>(op), a, b); },
                         {bytes_of(x), bytes_of(z)}, y, "binary_f32 " + shown_dims(a) + shown_dims(b));
    }
  }
  CHECK_THROWS(std::invalid_argument, plan_binary_f32(FloatBinaryOp::add, {2}, {3}));
}

TEST(float_ops_pointwise_functions) {
  struct Row {
    const char* name;
    std::vector<double> args;
    std::function<long double(long double)> f;
    double lo = -12, hi = 12;
    double units = 1;       // of the value, for each rounding one; 2 for each unit of functions.h
    double units_of_x = 0;  // where larger values cancel
  };
  using L = long double;
  const auto clamp = [](L x, L lo, L hi) { return std::min(std::max(x, lo), hi); };
  const std::vector<Row> rows{
      {"relu", {}, [](L x) { return std::max(x, 0.0L); }},
      {"clamp", {-1.5, 6.0}, [&](L x) { return clamp(x, -1.5L, 6.0L); }},
      {"clamp", {6.0, -1.5}, [](L) { return -1.5L; }},
      {"sigmoid", {}, [](L x) { return 1 / (1 + std::exp(-x)); }, -80, 80, 5},
      {"tanh", {}, [](L x) { return std::tanh(x); }, -12, 12, 6},
      {"silu", {}, [](L x) { return x / (1 + std::exp(-x)); }, -80, 80, 6},
      {"gelu", {0}, [](L x) { return x * std::erfc(-x / std::sqrt(2.0L)) / 2; }, -12, 12, 5, 2},
      {"gelu",
       {1},
       [](L x) {
         return x / 2 * (1 + std::tanh(std::sqrt(2 / 3.14159265358979323846L) * (x + 0.044715L * x * x * x)));
       },
       -12,
       12,
       5,
       2},
      {"hardsigmoid", {}, [&](L x) { return clamp(x + 3, 0, 6) / 6; }, -12, 12, 2, 1},
      {"hardswish", {}, [&](L x) { return x * clamp(x + 3, 0, 6) / 6; }, -12, 12, 3, 3},
      {"leaky_relu", {0.25}, [](L x) { return x < 0 ? x / 4 : x; }},
      {"elu", {0.5}, [](L x) { return x > 0 ? x : std::expm1(x) / 2; }, -12, 12, 5},
      {"celu", {0.5}, [](L x) { return x > 0 ? x : std::expm1(x * 2) / 2; }, -12, 12, 6},
      {"celu", {-0.5}, [](L x) { return x > 0 ? x : std::expm1(-x * 2) / -2; }, -30, 12, 6},
      {"selu",
       {},
       [](L x) { return 1.0507009873554804934L * (x > 0 ? x : 1.6732632423543772848L * std::expm1(x)); },
       -12,
       12,
       8},
      {"softplus", {2, 20}, [](L x) { return x * 2 > 20 ? x : std::log1p(std::exp(x * 2)) / 2; }, -40, 12, 10},
      {"mish", {}, [](L x) { return x * std::tanh(std::log1p(std::exp(x))); }, -80, 80, 10},
      {"logsigmoid", {}, [](L x) { return -std::log1p(std::exp(-x)); }, -80, 80, 10},
      {"softsign", {}, [](L x) { return x / (1 + std::abs(x)); }, -12, 12, 2},
      {"tanhshrink", {}, [](L x) { return x - std::tanh(x); }, -12, 12, 1, 6},
      {"hardshrink", {0.5}, [](L x) { return std::abs(x) <= 0.5L ? 0 : x; }},
      {"softshrink", {0.5}, [](L x) { return x > 0.5L ? x - 0.5L : (x < -0.5L ? x + 0.5L : 0); }},
      {"threshold", {1.0, -7.0}, [](L x) { return x > 1 ? x : -7; }},
      {"exp", {}, [](L x) { return std::exp(x); }, -80, 80, 2.2},
      {"log", {}, [](L x) { return std::log(x); }, 0.1, 12, 4},
      {"sqrt", {}, [](L x) { return std::sqrt(x); }, 0},
      {"rsqrt", {}, [](L x) { return 1 / std::sqrt(x); }, 0.1, 12, 2},
      {"reciprocal", {}, [](L x) { return 1 / x; }, 0.1},
      {"abs", {}, [](L x) { return std::abs(x); }},
      {"neg", {}, [](L x) { return -x; }},
      {"square", {}, [](L x) { return x * x; }},
      {"pow_scalar", {2.5}, [](L x) { return std::pow(x, 2.5L); }, 0},
      {"erf", {}, [](L x) { return std::erf(x); }, -12, 12, 8},
      {"sin", {}, [](L x) { return std::sin(x); }},
      {"cos", {}, [](L x) { return std::cos(x); }},
      {"add_scalar", {-3}, [](L x) { return x - 3; }},
      {"rsub_scalar", {2}, [](L x) { return 2 - x; }},
      {"mul_scalar", {0.5}, [](L x) { return x / 2; }},
      {"rdiv_scalar", {2}, [](L x) { return 2 / x; }, 0.1},
      {"floor", {}, [](L x) { return std::floor(x); }},
      {"ceil", {}, [](L x) { return std::ceil(x); }},
      {"round", {}, [](L x) { return std::nearbyint(x); }},
      {"sign", {}, [](L x) { return x > 0 ? 1 : (x < 0 ? -1 : 0); }},
  };
  Rng rng(64);
  for (const Row& row : rows) {
    auto x = random_floats(rng, 1077, row.lo, row.hi);
    std::vector<float> y;
    std::vector<double> allowed;
    for (float value : x) {
      y.push_back(static_cast<float>(row.f(value)));
      allowed.push_back(kUnit * (row.units * std::fabs(static_cast<double>(y.back())) +
                                 row.units_of_x * std::fabs(static_cast<double>(value))));
    }
    const auto plan = [&](Isa isa) {
      return plan_pointwise_f32(row.name, row.args, static_cast<int64_t>(x.size()), isa);
    };
    check_glue(plan, {x}, y, row.name, allowed);
    if (std::string(row.name) == "threshold" || std::string(row.name) == "sign") continue;
    x.assign(x.size(), std::numeric_limits<float>::quiet_NaN());
    check_glue(plan, {x}, x, std::string(row.name) + " of NaN");
  }
  CHECK_THROWS(std::invalid_argument, plan_pointwise_f32("no_such", {}, 1));
  CHECK_THROWS(std::invalid_argument, plan_pointwise_f32("clamp", std::vector<double>{1.0}, 1));
}

// Every level's bits of every function, over floats of every exponent, with each number of elements behind a vector.
TEST(float_ops_gated_products_are_the_function_and_then_the_product) {
  Rng rng(94);
  for (const int64_t n : {0, 1, 17, 1023, 1024, 1025, 5000}) {
    const auto x = random_floats(rng, n, -9, 9), y = random_floats(rng, n, -3, 3);
    std::vector<float> z(x.size());
    run(*plan_pointwise_f32("silu", {}, n), {x.data()}, {z.data()}, 1);
    for (size_t i = 0; i < z.size(); ++i) z[i] = z[i] * y[i];
    check_on_every_isa([&](Isa isa) { return plan_gated_f32("silu", {}, n, isa); }, {bytes_of(x), bytes_of(y)}, z,
                       "gated products of " + std::to_string(n));
  }
  CHECK_THROWS(std::invalid_argument, plan_gated_f32("no_such", {}, 1));
  CHECK_THROWS(std::invalid_argument, plan_gated_f32("silu", {}, -1));
}

TEST(float_ops_pointwise_functions_have_the_same_bits_on_every_level) {
  std::vector<float> x{0.0f, -0.0f, INFINITY, -INFINITY, std::numeric_limits<float>::quiet_NaN()};
  for (uint32_t bits = 1; bits < 0x7f800000u; bits += 0x1234567u / 40)
    for (const uint32_t sign : {0u, 0x80000000u}) {
      float value;
      const uint32_t both = bits | sign;
      std::memcpy(&value, &both, sizeof value);
      x.push_back(value);
    }
  for (int64_t tail = 0; tail < 17; ++tail) x.push_back(1.0f + static_cast<float>(tail));
  struct Named {
    const char* name;
    size_t arguments;
  };
  const Named functions[] = {
#define QFX_POINTWISE(name, arguments, value) {#name, arguments},
#include "float_ops/pointwise.inc"
#undef QFX_POINTWISE
  };
  for (const Named& f : functions)
    for (const double first : {0.7, 0.0, -1.25})
      for (int64_t tail = 0; tail < 17; tail += 5) {
        const std::vector<double> all{first, 3.0}, args(all.begin(), all.begin() + static_cast<int64_t>(f.arguments));
        const std::vector<float> part(x.begin(), x.end() - tail);
        std::vector<float> y(part.size());
        const auto plan = [&](Isa isa) {
          return plan_pointwise_f32(f.name, args, static_cast<int64_t>(part.size()), isa);
        };
        run(*plan(Isa::scalar), {part.data()}, {y.data()}, 1);
        check_on_every_isa(plan, {bytes_of(part)}, y, f.name);
      }
}

TEST(float_ops_matmul_f32_in_the_order_of_k) {
  Rng rng(65);
  for (const Dims& s : {Dims{1, 1, 1, 1}, Dims{2, 3, 64, 5}, Dims{1, 7, 33, 130}, Dims{3, 4, 0, 6}, Dims{0, 2, 3, 4}}) {
    const int64_t batch = s[0], m = s[1], k = s[2], n = s[3];
    const auto a = random_floats(rng, batch * m * k, -1, 1), b = random_floats(rng, batch * k * n, -1, 1);
    std::vector<float> y;
    for (int64_t i = 0; i < batch * m; ++i)
      for (int64_t j = 0; j < n; ++j) {
        float sum = 0.0f;
        for (int64_t p = 0; p < k; ++p) {
          volatile float product = a[static_cast<size_t>(i * k + p)] * b[static_cast<size_t>((i / m * k + p) * n + j)];
          sum += product;
        }
        y.push_back(sum);
      }
    check_on_every_isa([&](Isa) { return plan_matmul_f32(batch, m, k, n); }, {bytes_of(a), bytes_of(b)}, y,
                       "matmul " + shown_dims(s));
  }
}
