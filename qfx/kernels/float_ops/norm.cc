#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "core/row_work.h"
#include "core/split.h"
#include "float_ops/float_ops.h"
#include "float_ops/kernels.h"

namespace qfx {
namespace {

using float_ops::NormalizeRow;
using float_ops::RmsRow;

// An affine map per channel; the identity where weight or bias is absent.
template <class T>
struct Affine {
  Affine(std::span<const float> w, std::span<const float> b, int64_t n) : weight(n, T(1)), bias(n, T(0)) {
    if (!(w.empty() || static_cast<int64_t>(w.size()) == n) || !(b.empty() || static_cast<int64_t>(b.size()) == n))
      throw std::invalid_argument("a weight or bias of another size than what is normalized");
    std::ranges::copy(w, weight.begin());
    std::ranges::copy(b, bias.begin());
  }
  std::vector<T> weight, bias;
};

constexpr int64_t kLanes = 8;
struct Lanes {
  double at[kLanes] = {};

  double sum() const noexcept { return ((at[0] + at[1]) + (at[2] + at[3])) + ((at[4] + at[5]) + (at[6] + at[7])); }
};

// sum over i of term(x[i])
template <class Term>
void accumulate(const float* x, int64_t n, Lanes& lanes, Term&& term) noexcept {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int64_t k = 0; k < kLanes; ++k) lanes.at[k] += term(static_cast<double>(x[i + k]));
  for (int64_t k = 0; i < n; ++i, ++k) lanes.at[k] += term(static_cast<double>(x[i]));
}

struct Statistics {
  double mean, scale;  // scale = 1 / sqrt(variance + eps)
};

// Of `rows` runs of `n` elements, `stride` apart; the variance in a second pass, about the mean.
Statistics statistics(const float* x, int64_t rows, int64_t n, int64_t stride, double eps) noexcept {
  const auto count = static_cast<double>(rows * n);
  Lanes sum, square;
  for (int64_t r = 0; r < rows; ++r) accumulate(x + r * stride, n, sum, [](double v) { return v; });
  const double mean = sum.sum() / count;
  for (int64_t r = 0; r < rows; ++r)
    accumulate(x + r * stride, n, square, [mean](double v) { return (v - mean) * (v - mean); });
  return {mean, 1.0 / std::sqrt(square.sum() / count + eps)};
}

void normalize(const float* x, float* y, int64_t n, const Statistics& s, const double* weight,
               const double* bias) noexcept {
  for (int64_t i = 0; i < n; ++i)
    y[i] = static_cast<float>((static_cast<double>(x[i]) - s.mean) * s.scale * weight[i] + bias[i]);
}

// Of rows that lie together, by a kernel of the kind.
template <class Kind>
class RowNormWork final : public Work, public RowMap {
 public:
  RowNormWork(int64_t rows, int64_t n, double eps, Affine<float> affine, Isa isa)
      : rows_(rows),
        n_(n),
        eps_(static_cast<float>(eps)),
        affine_(std::move(affine)),
        kernel_(float_ops::select<Kind>(isa)) {}

  void run(const void* const* in, void* const* out, std::byte*, int tid, int threads) const noexcept override {
    const Range part = split(rows_, tid, threads);
    map(static_cast<const float*>(in[0]) + part.begin * n_, static_cast<float*>(out[0]) + part.begin * n_,
        part.end - part.begin, n_);
  }
  void map(const float* x, float* y, int64_t rows, int64_t n) const noexcept override {
    for (int64_t r = 0; r < rows; ++r)
      kernel_.run(x + r * n, y + r * n, n, eps_, affine_.weight.data(), affine_.bias.data());
  }

  int64_t cost() const noexcept override { return 6 * rows_ * n_; }
  std::vector<const char*> kernels() const override { return {kernel_.name}; }

 private:
  int64_t rows_, n_;
  float eps_;
  Affine<float> affine_;
  Kernel<Kind> kernel_;
};

class GroupNormWork final : public Work {
 public:
  GroupNormWork(int64_t n, int64_t pixels, int64_t channels, int64_t groups, double eps, Affine<double> affine)
      : n_(n), pixels_(pixels), channels_(channels), groups_(groups), eps_(eps), affine_(std::move(affine)) {}

  void run(const void* const* in, void* const* out, std::byte*, int tid, int threads) const noexcept override {
    const int64_t width = channels_ / groups_;
    const Range part = split(n_ * groups_, tid, threads);
    for (int64_t i = part.begin; i < part.end; ++i) {
      const int64_t channel = i % groups_ * width, first = i / groups_ * pixels_ * channels_ + channel;
      const float* x = static_cast<const float*>(in[0]) + first;
      float* y = static_cast<float*>(out[0]) + first;
      const Statistics s = statistics(x, pixels_, width, channels_, eps_);
      for (int64_t p = 0; p < pixels_; ++p)
        normalize(x + p * channels_, y + p * channels_, width, s, affine_.weight.data() + channel,
                  affine_.bias.data() + channel);
    }
  }

  int64_t cost() const noexcept override { return 12 * n_ * pixels_ * channels_; }
  std::string details() const override { return "group_norm"; }

 private:
  int64_t n_, pixels_, channels_, groups_;
  double eps_;
  Affine<double> affine_;
};

}  // namespace

std::unique_ptr<Work> plan_layer_norm(int64_t rows, int64_t n, double eps, std::span<const float> weight,
                                      std::span<const float> bias, Isa isa) {
  if (rows < 0 || n < 0) throw std::invalid_argument("a negative dimension");
  return std::make_unique<RowNormWork<NormalizeRow>>(rows, n, eps, Affine<float>(weight, bias, n), isa);
}

std::unique_ptr<Work> plan_rms_norm(int64_t rows, int64_t n, double eps, std::span<const float> weight, Isa isa) {
  if (rows < 0 || n < 0) throw std::invalid_argument("a negative dimension");
  return std::make_unique<RowNormWork<RmsRow>>(rows, n, eps, Affine<float>(weight, {}, n), isa);
}

std::unique_ptr<Work> plan_group_norm(int64_t n, int64_t pixels, int64_t channels, int64_t groups, double eps,
                                      std::span<const float> weight, std::span<const float> bias) {
  if (n < 0 || pixels < 0 || channels < 0) throw std::invalid_argument("a negative dimension");
  if (groups < 1 || channels % groups != 0) throw std::invalid_argument("groups that do not divide the channels");
  return std::make_unique<GroupNormWork>(n, pixels, channels, groups, eps, Affine<double>(weight, bias, channels));
}

}  // namespace qfx
