#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "core/nest.h"
#include "glue/glue.h"

namespace qfx {
namespace {

constexpr int64_t kChunk = 32768;  // codes whose products always fit s32 when summed

struct Affine {
  float scale;
  int32_t zero_point;
};

// As qfx.ops.arithmetic.affine_qparams for [min(x, 0), max(x, 0)] and codes 0..qmax. NaNs are passed over.
Affine affine_of(const float* x, int64_t n, int32_t qmax) noexcept {
  constexpr int64_t kLanes = 8;
  float low[kLanes] = {}, high[kLanes] = {};
  for (int64_t i = 0; i < n; ++i) {
    low[i % kLanes] = x[i] < low[i % kLanes] ? x[i] : low[i % kLanes];
    high[i % kLanes] = x[i] > high[i % kLanes] ? x[i] : high[i % kLanes];
  }
  const double lowest = *std::min_element(low, low + kLanes), highest = *std::max_element(high, high + kLanes);
  float scale = static_cast<float>((highest - lowest) / qmax);
  if (scale == 0.0f) scale = 1.0f;
  if (!std::isfinite(scale)) return {scale, 0};
  const double zero_point = std::nearbyint(-lowest / static_cast<double>(scale));
  return {scale, static_cast<int32_t>(std::clamp(zero_point, 0.0, static_cast<double>(qmax)))};
}

class LinearDynamicWork final : public Work {
 public:
  LinearDynamicWork(int64_t rows, int64_t k, int64_t n, std::span<const int8_t> weight,
                    std::span<const float> weight_scale, std::span<const float> bias, bool reduce_range)
      : rows_(rows),
        k_(k),
        n_(n),
        weight_(weight.begin(), weight.end()),
        weight_scale_(weight_scale.begin(), weight_scale.end()),
        bias_(bias.begin(), bias.end()),
        qmax_(reduce_range ? 127 : 255) {}

  // Parts are output features; each part finds the range of x and quantizes it for itself.
  void run(const void* const* in, void* const* out, std::byte* scratch, int tid, int threads) const noexcept override {
    const auto* x = static_cast<const float*>(in[0]);
    auto* y = static_cast<float*>(out[0]);
    auto* codes = reinterpret_cast<int16_t*>(scratch);
    const Range part = split(n_, tid, threads, 16);
    if (part.begin == part.end) return;
    const Affine affine = affine_of(x, rows_ * k_, qmax_);
    if (!std::isfinite(affine.scale)) return fill_nan(y, part);
    for (int64_t r = 0; r < rows_; ++r) {
      quantize(x + r * k_, codes, affine);
      for (int64_t o = part.begin; o < part.end; ++o) {
        const float product = static_cast<float>(dot(codes, weight_.data() + o * k_));
        const float value = product * (affine.scale * weight_scale_[static_cast<size_t>(o)]);
        y[r * n_ + o] = bias_.empty() ? value : value + bias_[static_cast<size_t>(o)];
      }
    }
  }

  size_t scratch_bytes() const noexcept override { return static_cast<size_t>(k_) * sizeof(int16_t); }
  int64_t cost() const noexcept override { return rows_ * k_ * n_; }
  std::string describe() const override { return "linear_dynamic"; }

 private:
  // Codes less the zero point, so that products need no correction.
  void quantize(const float* x, int16_t* codes, const Affine& a) const noexcept {
    for (int64_t i = 0; i < k_; ++i) {
      double q = std::nearbyint(static_cast<double>(x[i]) / static_cast<double>(a.scale));
      q = std::isnan(q) ? 0.0 : std::clamp(q + a.zero_point, 0.0, static_cast<double>(qmax_)) - a.zero_point;
      codes[i] = static_cast<int16_t>(q);
    }
  }

  int64_t dot(const int16_t* codes, const int8_t* weight) const noexcept {
    int64_t total = 0;
    for (int64_t first = 0; first < k_; first += kChunk) {
      const int64_t end = std::min(first + kChunk, k_);
      int32_t sum = 0;
      for (int64_t i = first; i < end; ++i) sum += codes[i] * weight[i];
      total += sum;
    }
    return total;
  }

  void fill_nan(float* y, Range part) const noexcept {
    for (int64_t r = 0; r < rows_; ++r)
      std::fill(y + r * n_ + part.begin, y + r * n_ + part.end, std::numeric_limits<float>::quiet_NaN());
  }

  int64_t rows_, k_, n_;
  std::vector<int8_t> weight_;
  std::vector<float> weight_scale_, bias_;
  int32_t qmax_;
};

}  // namespace

std::unique_ptr<Work> plan_linear_dynamic(int64_t rows, int64_t k, int64_t n, std::span<const int8_t> weight,
                                          std::span<const float> weight_scale, std::span<const float> bias,
                                          bool reduce_range) {
  if (rows < 0 || k < 0 || n < 0) throw std::invalid_argument("a negative dimension");
  if (static_cast<int64_t>(weight.size()) != n * k || static_cast<int64_t>(weight_scale.size()) != n ||
      !(bias.empty() || static_cast<int64_t>(bias.size()) == n))
    throw std::invalid_argument("constants of a dynamic linear layer of another size than its shape");
  return std::make_unique<LinearDynamicWork>(rows, k, n, weight, weight_scale, bias, reduce_range);
}

}  // namespace qfx
