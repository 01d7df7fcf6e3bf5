#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "core/affine.h"
#include "core/split.h"
#include "elementwise/kernels.h"
#include "glue/glue.h"
#include "glue/kernels.h"
#include "recurrent/kernels.h"

namespace qfx {
namespace {

using elementwise::Quantize;
using elementwise::QuantizeParams;
using glue::Dot;
using glue::kDotMax;

constexpr int64_t kRows = 64;     // rows quantized at a time
constexpr int64_t kOutputs = 16;  // outputs whose weights stay in L1 for those rows

class LinearDynamicWork final : public Work {
 public:
  LinearDynamicWork(int64_t rows, int64_t k, int64_t n, std::span<const int8_t> weight,
                    std::span<const float> weight_scale, std::span<const int32_t> weight_zero_point,
                    std::span<const float> bias, Isa isa)
      : rows_(rows),
        k_(k),
        n_(n),
        weight_(weight),
        weight_sum_(static_cast<size_t>(n)),
        weight_scale_(weight_scale),
        weight_zero_point_(weight_zero_point),
        bias_(bias),
        dot_(glue::select<Dot>(isa)),
        extent_(recurrent::select<recurrent::Extent>(isa)),
        isa_(isa) {
    for (int64_t i = 0; i < n * k; ++i) weight_sum_[static_cast<size_t>(i / k)] += weight_[static_cast<size_t>(i)];
    for (size_t o = 0; o < weight_zero_point.size(); ++o) weight_sum_[o] -= k * weight_zero_point[o];
  }

  // Parts are output features; each part finds the range of x and quantizes it for itself.
  void run(const void* const* in, void* const* out, std::byte* scratch, int tid, int threads) const noexcept override {
    const auto* x = static_cast<const float*>(in[0]);
    auto* y = static_cast<float*>(out[0]);
    auto* codes = reinterpret_cast<uint8_t*>(scratch);
    const Range part = split(n_, tid, threads, kOutputs);
    if (part.begin == part.end) return;
    float low = 0.0f, high = 0.0f;
    extent_.run(x, rows_ * k_, &low, &high);
    const Affine affine = affine_of(low, high);
    if (!std::isfinite(affine.scale)) return fill_nan(y, part);
    for (int64_t r = 0; r < rows_; r += kRows) {
      const int64_t rows = std::min(kRows, rows_ - r);
      quantize(x + r * k_, codes, rows * k_, affine);
      for (int64_t o = part.begin; o < part.end; o += kOutputs)
        run_block(codes, y + r * n_, rows, {o, std::min(o + kOutputs, part.end)}, affine);
    }
  }

  size_t scratch_bytes() const noexcept override { return static_cast<size_t>(std::min(kRows, rows_) * k_); }
  int64_t cost() const noexcept override { return rows_ * k_ * n_; }
  std::vector<const char*> kernels() const override { return {dot_.name, extent_.name}; }

 private:
  void quantize(const float* x, uint8_t* codes, int64_t n, const Affine& a) const noexcept {
    const QuantizeParams params = QuantizeParams::of(a.scale, a.zero_point);
    elementwise::select<Quantize>(params.isa(isa_)).run(x, codes, n, params);
  }

  void run_block(const uint8_t* codes, float* y, int64_t rows, Range outputs, const Affine& a) const noexcept {
    const int64_t n = outputs.end - outputs.begin;
    int64_t sum[kRows * kOutputs] = {};
    int64_t code_sum[kRows] = {};
    int32_t acc[kRows * kOutputs];
    for (int64_t i = 0; i < k_; i += kDotMax) {
      dot_.run({codes + i, k_, rows, weight_.data() + outputs.begin * k_ + i, k_, n, std::min(kDotMax, k_ - i), acc,
                kOutputs});
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t j = 0; j < n; ++j) sum[r * kOutputs + j] += acc[r * kOutputs + j];
    }
    if (!weight_zero_point_.empty())
      for (int64_t i = 0; i < rows * k_; ++i) code_sum[i / k_] += codes[i];
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t j = 0; j < n; ++j) {
        const auto o = static_cast<size_t>(outputs.begin + j);
        int64_t centered = sum[r * kOutputs + j] - a.zero_point * weight_sum_[o];
        if (!weight_zero_point_.empty()) centered -= weight_zero_point_[o] * code_sum[r];
        const auto product = static_cast<float>(centered);
        const float value = product * (a.scale * weight_scale_[o]);
        y[r * n_ + outputs.begin + j] = bias_.empty() ? value : value + bias_[o];
      }
  }

  void fill_nan(float* y, Range part) const noexcept {
    for (int64_t r = 0; r < rows_; ++r)
      std::fill(y + r * n_ + part.begin, y + r * n_ + part.end, std::numeric_limits<float>::quiet_NaN());
  }

  int64_t rows_, k_, n_;
  std::span<const int8_t> weight_;
  std::vector<int64_t> weight_sum_;
  std::span<const float> weight_scale_;
  std::span<const int32_t> weight_zero_point_;
  std::span<const float> bias_;
  Kernel<Dot> dot_;
  Kernel<recurrent::Extent> extent_;
  Isa isa_;
};

}  // namespace

std::unique_ptr<Work> plan_linear_dynamic(int64_t rows, int64_t k, int64_t n, std::span<const int8_t> weight,
                                          std::span<const float> weight_scale, std::span<const float> bias, Isa isa,
                                          std::span<const int32_t> weight_zero_point) {
  if (rows < 0 || k < 0 || n < 0) throw std::invalid_argument("a negative dimension");
  if (static_cast<int64_t>(weight.size()) != n * k || static_cast<int64_t>(weight_scale.size()) != n ||
      !(bias.empty() || static_cast<int64_t>(bias.size()) == n) ||
      !(weight_zero_point.empty() || static_cast<int64_t>(weight_zero_point.size()) == n))
    throw std::invalid_argument("constants of a dynamic linear layer of another size than its shape");
  return std::make_unique<LinearDynamicWork>(rows, k, n, weight, weight_scale, weight_zero_point, bias, isa);
}

}  // namespace qfx
