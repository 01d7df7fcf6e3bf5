#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "core/row_work.h"
#include "core/split.h"
#include "float_ops/float_ops.h"
#include "float_ops/kernels.h"

namespace qfx {
namespace {

using float_ops::Pointwise;
using float_ops::PointwiseFunction;

struct Function {
  const char* name;
  size_t arguments;
  PointwiseFunction function;
};

constexpr Function kFunctions[] = {
#define QFX_POINTWISE(name, arguments, value) {#name, arguments, PointwiseFunction::name},
#include "float_ops/pointwise.inc"
#undef QFX_POINTWISE
};

// What has no polynomial of ours: float64, rounded once.
struct Float64Function {
  const char* name;
  size_t arguments;
  double (*value)(double x, double a);
};

constexpr Float64Function kFloat64Functions[] = {
    {"pow_scalar", 1, [](double x, double a) { return std::pow(x, a); }},
    {"sin", 0, [](double x, double) { return std::sin(x); }},
    {"cos", 0, [](double x, double) { return std::cos(x); }},
};

// Powers whose float64 value rounds to what a float32 operation gives.
struct Power {
  double exponent;
  PointwiseFunction function;
};

constexpr Power kPowers[] = {
    {2.0, PointwiseFunction::square}, {0.5, PointwiseFunction::sqrt}, {-1.0, PointwiseFunction::reciprocal}};

// A function with its arguments, on a level.
class Applied {
 public:
  Applied(PointwiseFunction function, std::span<const double> args, Isa isa)
      : function_(function), kernel_(float_ops::select<Pointwise>(isa)) {
    std::ranges::transform(args, args_, [](double value) { return static_cast<float>(value); });
  }

  void operator()(const float* x, float* y, int64_t n) const noexcept { kernel_.run(function_, args_, x, y, n); }
  const char* kernel() const noexcept { return kernel_.name; }

 private:
  PointwiseFunction function_;
  float args_[2] = {};
  Kernel<Pointwise> kernel_;
};

class PointwiseWork final : public Work, public RowMap {
 public:
  PointwiseWork(const Applied& applied, int64_t n) : applied_(applied), n_(n) {}

  void run(const void* const* in, void* const* out, std::byte*, int tid, int threads) const noexcept override {
    const Range part = split(n_, tid, threads, 16);
    applied_(static_cast<const float*>(in[0]) + part.begin, static_cast<float*>(out[0]) + part.begin,
             part.end - part.begin);
  }
  void map(const float* x, float* y, int64_t rows, int64_t width) const noexcept override {
    applied_(x, y, rows * width);
  }

  int64_t cost() const noexcept override { return 6 * n_; }
  std::vector<const char*> kernels() const override { return {applied_.kernel()}; }

 private:
  Applied applied_;
  int64_t n_;
};

class GatedWork final : public Work {
 public:
  GatedWork(const Applied& applied, int64_t n) : applied_(applied), n_(n) {}

  // A block at a time, so that what the function gives is multiplied while it is in cache.
  void run(const void* const* in, void* const* out, std::byte*, int tid, int threads) const noexcept override {
    const auto* x = static_cast<const float*>(in[0]);
    const auto* y = static_cast<const float*>(in[1]);
    auto* z = static_cast<float*>(out[0]);
    const Range part = split(n_, tid, threads, 16);
    for (int64_t begin = part.begin; begin < part.end; begin += kBlock) {
      const int64_t end = std::min(begin + kBlock, part.end);
      applied_(x + begin, z + begin, end - begin);
      for (int64_t i = begin; i < end; ++i) z[i] = z[i] * y[i];
    }
  }

  int64_t cost() const noexcept override { return 9 * n_; }
  std::vector<const char*> kernels() const override { return {applied_.kernel()}; }

 private:
  static constexpr int64_t kBlock = 1024;
  Applied applied_;
  int64_t n_;
};

class Float64Work final : public Work {
 public:
  Float64Work(const Float64Function& function, std::span<const double> args, int64_t n)
      : function_(function), arg_(args.empty() ? 0.0 : args[0]), n_(n) {}

  void run(const void* const* in, void* const* out, std::byte*, int tid, int threads) const noexcept override {
    const auto* x = static_cast<const float*>(in[0]);
    auto* y = static_cast<float*>(out[0]);
    const Range part = split(n_, tid, threads, 16);
    for (int64_t i = part.begin; i < part.end; ++i)
      y[i] = static_cast<float>(function_.value(static_cast<double>(x[i]), arg_));
  }

  int64_t cost() const noexcept override { return 30 * n_; }
  std::string details() const override { return std::string("pointwise_f32 ") + function_.name; }

 private:
  const Float64Function& function_;
  double arg_;
  int64_t n_;
};

template <class Row>
void require_arguments(const Row& row, std::span<const double> args) {
  if (args.size() != row.arguments)
    throw std::invalid_argument(std::string("pointwise function ") + row.name + " takes " +
                                std::to_string(row.arguments) + " arguments, not " + std::to_string(args.size()));
}

}  // namespace

std::unique_ptr<Work> plan_pointwise_f32(const std::string& name, std::span<const double> args, int64_t n, Isa isa) {
  if (n < 0) throw std::invalid_argument("a negative number of elements");
  for (const Function& row : kFunctions) {
    if (name != row.name) continue;
    require_arguments(row, args);
    return std::make_unique<PointwiseWork>(Applied(row.function, args, isa), n);
  }
  for (const Float64Function& row : kFloat64Functions) {
    if (name != row.name) continue;
    require_arguments(row, args);
    if (name == "pow_scalar")
      for (const Power& power : kPowers)
        if (args[0] == power.exponent) return std::make_unique<PointwiseWork>(Applied(power.function, args, isa), n);
    return std::make_unique<Float64Work>(row, args, n);
  }
  throw std::invalid_argument("no pointwise function named " + name);
}

std::unique_ptr<Work> plan_gated_f32(const std::string& name, std::span<const double> args, int64_t n, Isa isa) {
  if (n < 0) throw std::invalid_argument("a negative number of elements");
  const auto* const row = std::ranges::find_if(kFunctions, [&](const Function& f) { return name == f.name; });
  if (row == std::end(kFunctions)) throw std::invalid_argument("no gate named " + name);
  require_arguments(*row, args);
  return std::make_unique<GatedWork>(Applied(row->function, args, isa), n);
}

}  // namespace qfx
