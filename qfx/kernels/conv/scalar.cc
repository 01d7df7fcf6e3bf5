#include <algorithm>
#include <utility>

#include "conv/problem.h"
#include "core/requant.h"
#include "core/split.h"

namespace qfx::conv {
namespace {

struct Window {
  int64_t image;
  int64_t origin[3];  // input coordinate of tap (0, 0, 0); may lie in the padding
};

class ScalarWork final : public Work {
 public:
  ScalarWork(const Problem& problem, const ConvShape& shape) : problem_(problem), shape_(shape) {}

  void run(const void* const* in, void* const* out, std::byte*, int tid, int threads) const noexcept override {
    const auto* x = static_cast<const uint8_t*>(in[0]);
    const auto* residual = problem_.quant.residual ? in[1] : nullptr;
    const Range range = split(shape_.n * pixels(shape_.out), tid, threads);
    for (int64_t pixel = range.begin; pixel < range.end; ++pixel) {
      const Window window = window_of(pixel);
      for (int64_t o = 0; o < problem_.geometry.c_out; ++o) {
        const float v = value(accumulate(x, window, o), residual, pixel, o);
        store(v, out[0], pixel * shape_.y_pixel_stride + o);
      }
    }
  }

  int64_t cost() const noexcept override {
    return shape_.n * pixels(shape_.out) * static_cast<int64_t>(problem_.weight.size());
  }

  int64_t products() const noexcept override { return products_of(problem_, shape_); }

  std::string details() const override { return "conv_u8s8_1x1c1__scalar: the reference"; }

 private:
  Window window_of(int64_t pixel) const noexcept {
    Window window{};
    for (int d = 2; d >= 0; --d) {
      const ConvGeometry& g = problem_.geometry;
      window.origin[d] = pixel % shape_.out[d] * g.stride[d] - (d == 1 ? rows_above(g, shape_) : g.pad_lo[d]);
      pixel /= shape_.out[d];
    }
    window.image = pixel;
    return window;
  }

  int32_t accumulate(const uint8_t* x, const Window& window, int64_t o) const noexcept {
    const ConvGeometry& g = problem_.geometry;
    const int64_t channels = problem_.group_in();
    const int64_t first_channel = o / problem_.group_out() * channels;
    const int32_t zw = problem_.weight_zero_point.empty() ? 0 : problem_.weight_zero_point[static_cast<size_t>(o)];
    const int32_t zx = problem_.quant.x_zero_point;
    const int8_t* w = problem_.weight.data() + o * problem_.taps() * channels;
    uint32_t acc = 0;
    for (int64_t k0 = 0; k0 < g.kernel[0]; ++k0) {
      for (int64_t k1 = 0; k1 < g.kernel[1]; ++k1) {
        for (int64_t k2 = 0; k2 < g.kernel[2]; ++k2, w += channels) {
          const int64_t i0 = window.origin[0] + k0 * g.dilation[0];
          const int64_t i1 = window.origin[1] + k1 * g.dilation[1];
          const int64_t i2 = window.origin[2] + k2 * g.dilation[2];
          if (i0 < 0 || i1 < 0 || i2 < 0 || i0 >= shape_.in[0] || i1 >= shape_.in[1] || i2 >= shape_.in[2]) continue;
          const int64_t pixel = ((window.image * shape_.in[0] + i0) * shape_.in[1] + i1) * shape_.in[2] + i2;
          const uint8_t* a = x + pixel * shape_.x_pixel_stride + first_channel;
          for (int64_t c = 0; c < channels; ++c) acc += static_cast<uint32_t>((a[c] - zx) * (w[c] - zw));
        }
      }
    }
    // The total fits s32 (fold); the sum before the bias need not: modulo 2^32.
    return static_cast<int32_t>(acc + static_cast<uint32_t>(problem_.bias[static_cast<size_t>(o)]));
  }

  float value(int32_t acc, const void* residual, int64_t pixel, int64_t o) const noexcept {
    const float v = static_cast<float>(acc) * problem_.multiplier[static_cast<size_t>(o)];
    if (residual == nullptr) return v;
    const ConvQuant& q = problem_.quant;
    const int64_t at = pixel * problem_.geometry.c_out + o;
    if (q.f32_residual) return v + static_cast<const float*>(residual)[at];
    const int32_t r = static_cast<const uint8_t*>(residual)[at] - q.residual_zero_point;
    return v + static_cast<float>(r) * q.residual_multiplier;
  }

  void store(float v, void* y, int64_t at) const noexcept {
    const ConvQuant& q = problem_.quant;
    if (q.f32_output) {
      static_cast<float*>(y)[at] = std::min(std::max(v, q.f32_lo), q.f32_hi);
      return;
    }
    const uint8_t code = requantize(v, q.zero_point, q.lo, q.hi);
    static_cast<uint8_t*>(y)[at] = problem_.lut.entries.empty() ? code : problem_.lut.entries[code];
  }

  const Problem& problem_;
  ConvShape shape_;
};

class ScalarConv final : public PackedConv {
 public:
  explicit ScalarConv(Problem problem)
      : problem_(std::move(problem)), weight_(problem_.weight.begin(), problem_.weight.end()) {
    problem_.weight = weight_;
  }

  std::unique_ptr<Work> plan(const ConvShape& shape) const override {
    check_shape(problem_.geometry, shape);
    return std::make_unique<ScalarWork>(problem_, shape);
  }

  size_t packed_bytes() const noexcept override {
    return problem_.weight.size() + sizeof(int32_t) * (problem_.weight_zero_point.size() + problem_.bias.size()) +
           sizeof(float) * problem_.multiplier.size() + problem_.lut.entries.size();
  }

 private:
  Problem problem_;
  std::vector<int8_t> weight_;
};

}  // namespace

std::unique_ptr<PackedConv> pack_scalar(Problem problem) {
  return std::make_unique<ScalarConv>(std::move(problem));
}

}  // namespace qfx::conv
