#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "core/split.h"
#include "float_ops/float_ops.h"

namespace qfx {
namespace {

constexpr double kSqrtHalf = 0.70710678118654752440;
constexpr double kSqrtTwoOverPi = 0.79788456080286535588;
constexpr double kSeluAlpha = 1.6732632423543772848170429916717;
constexpr double kSeluScale = 1.0507009873554804934193349852946;

// Comparisons are written so that NaN stays NaN.
double clamped(double x, double lo, double hi) {
  return x < lo ? lo : (x > hi ? hi : x);
}
double elu(double x, double alpha) {
  return x > 0.0 ? x : alpha * std::expm1(x);
}
double softplus(double x, double beta, double threshold) {
  return x * beta > threshold ? x : std::log1p(std::exp(x * beta)) / beta;
}
double gelu(double x, bool tanh_form) {
  return tanh_form ? 0.5 * x * (1.0 + std::tanh(kSqrtTwoOverPi * (x + 0.044715 * x * x * x)))
                   : 0.5 * x * (1.0 + std::erf(x * kSqrtHalf));
}

struct Function {
  const char* name;
  size_t args;
  double (*value)(double x, const double* a);
};

// Arguments as in qfx.ops, in the order of the signature; an absent bound is an infinity; gelu's is 1 for the
// tanh approximation.
constexpr Function kFunctions[] = {
    {"relu", 0, [](double x, const double*) { return x < 0.0 ? 0.0 : x; }},
    {"clamp", 2, [](double x, const double* a) { return clamped(x, a[0], a[1]); }},
    {"sigmoid", 0, [](double x, const double*) { return 1.0 / (1.0 + std::exp(-x)); }},
    {"tanh", 0, [](double x, const double*) { return std::tanh(x); }},
    {"silu", 0, [](double x, const double*) { return x / (1.0 + std::exp(-x)); }},
    {"gelu", 1, [](double x, const double* a) { return gelu(x, a[0] != 0.0); }},
    {"hardsigmoid", 0, [](double x, const double*) { return clamped(x + 3.0, 0.0, 6.0) / 6.0; }},
    {"hardswish", 0, [](double x, const double*) { return x * clamped(x + 3.0, 0.0, 6.0) / 6.0; }},
    {"leaky_relu", 1, [](double x, const double* a) { return x < 0.0 ? x * a[0] : x; }},
    {"elu", 1, [](double x, const double* a) { return elu(x, a[0]); }},
    {"celu", 1, [](double x, const double* a) { return x > 0.0 ? x : a[0] * std::expm1(x / a[0]); }},
    {"selu", 0, [](double x, const double*) { return kSeluScale * elu(x, kSeluAlpha); }},
    {"softplus", 2, [](double x, const double* a) { return softplus(x, a[0], a[1]); }},
    {"mish", 0, [](double x, const double*) { return x * std::tanh(std::log1p(std::exp(x))); }},
    {"logsigmoid", 0,
     [](double x, const double*) { return (x < 0.0 ? x : 0.0) - std::log1p(std::exp(-std::fabs(x))); }},
    {"softsign", 0, [](double x, const double*) { return x / (1.0 + std::fabs(x)); }},
    {"tanhshrink", 0, [](double x, const double*) { return x - std::tanh(x); }},
    {"hardshrink", 1, [](double x, const double* a) { return x >= -a[0] && x <= a[0] ? 0.0 : x; }},
    {"softshrink", 1, [](double x, const double* a) { return x > a[0] ? x - a[0] : (x < -a[0] ? x + a[0] : x * 0.0); }},
    {"threshold", 2, [](double x, const double* a) { return x <= a[0] ? a[1] : x; }},
    {"exp", 0, [](double x, const double*) { return std::exp(x); }},
    {"log", 0, [](double x, const double*) { return std::log(x); }},
    {"sqrt", 0, [](double x, const double*) { return std::sqrt(x); }},
    {"rsqrt", 0, [](double x, const double*) { return 1.0 / std::sqrt(x); }},
    {"reciprocal", 0, [](double x, const double*) { return 1.0 / x; }},
    {"abs", 0, [](double x, const double*) { return std::fabs(x); }},
    {"neg", 0, [](double x, const double*) { return -x; }},
    {"square", 0, [](double x, const double*) { return x * x; }},
    {"pow_scalar", 1, [](double x, const double* a) { return std::pow(x, a[0]); }},
    {"erf", 0, [](double x, const double*) { return std::erf(x); }},
    {"sin", 0, [](double x, const double*) { return std::sin(x); }},
    {"cos", 0, [](double x, const double*) { return std::cos(x); }},
    {"add_scalar", 1, [](double x, const double* a) { return x + a[0]; }},
    {"rsub_scalar", 1, [](double x, const double* a) { return a[0] - x; }},
    {"mul_scalar", 1, [](double x, const double* a) { return x * a[0]; }},
    {"rdiv_scalar", 1, [](double x, const double* a) { return a[0] / x; }},
    {"floor", 0, [](double x, const double*) { return std::floor(x); }},
    {"ceil", 0, [](double x, const double*) { return std::ceil(x); }},
    {"round", 0, [](double x, const double*) { return std::nearbyint(x); }},
    {"sign", 0, [](double x, const double*) { return x > 0.0 ? 1.0 : (x < 0.0 ? -1.0 : x); }},
};

class PointwiseWork final : public Work {
 public:
  PointwiseWork(const Function& function, std::span<const double> args, int64_t n) : function_(function), n_(n) {
    std::ranges::copy(args, args_);
  }

  void run(const void* const* in, void* const* out, std::byte*, int tid, int threads) const noexcept override {
    const auto* x = static_cast<const float*>(in[0]);
    auto* y = static_cast<float*>(out[0]);
    const Range part = split(n_, tid, threads, 16);
    for (int64_t i = part.begin; i < part.end; ++i)
      y[i] = static_cast<float>(function_.value(static_cast<double>(x[i]), args_));
  }

  int64_t cost() const noexcept override { return 30 * n_; }
  std::string details() const override { return std::string("pointwise_f32 ") + function_.name; }

 private:
  const Function& function_;
  double args_[2] = {};
  int64_t n_;
};

}  // namespace

std::unique_ptr<Work> plan_pointwise_f32(const std::string& name, std::span<const double> args, int64_t n) {
  if (n < 0) throw std::invalid_argument("a negative number of elements");
  for (const Function& function : kFunctions) {
    if (name != function.name) continue;
    if (args.size() != function.args)
      throw std::invalid_argument("pointwise function " + name + " takes " + std::to_string(function.args) +
                                  " arguments, not " + std::to_string(args.size()));
    return std::make_unique<PointwiseWork>(function, args, n);
  }
  throw std::invalid_argument("no pointwise function named " + name);
}

}  // namespace qfx
