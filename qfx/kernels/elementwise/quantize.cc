#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "core/nest.h"
#include "core/row_work.h"
#include "elementwise/kernels.h"
#include "move/kernels.h"

namespace qfx {
namespace {

using namespace elementwise;
using move::TransposeU8;

constexpr int64_t kBlock = 64;    // pixels and channels of one tile of a layout change
constexpr int64_t kGather = 256;  // strided elements collected at a time

QuantizeParams quantize_params(float scale, int32_t zero_point) {
  if (!(scale > 0.0f && std::isfinite(scale))) throw std::invalid_argument("a scale that is not positive and finite");
  if (zero_point < 0 || zero_point > 255) throw std::invalid_argument("a zero point outside 0..255");
  return QuantizeParams::of(scale, zero_point);
}

// Rows that are dense in x, or gathered piece by piece.
class QuantizeRows final : public Work, public RowEnd {
 public:
  QuantizeRows(Nest<1> nest, const QuantizeParams& params, Isa isa)
      : params_(params), row_(nest.pop()), outer_(nest), kernel_(select<Quantize>(isa)) {}

  void run(const void* const* in, void* const* out, std::byte* scratch, int tid, int threads) const noexcept override {
    const auto* x = static_cast<const float*>(in[0]);
    auto* y = static_cast<uint8_t*>(out[0]);
    auto* buffer = reinterpret_cast<float*>(scratch);
    const Range part = split(outer_.count() * row_.size, tid, threads, 64);
    for_each_row(part, outer_, row_.size, [&](const int64_t* offset, int64_t row, int64_t column, int64_t n) {
      const float* from = x + offset[0] + column * row_.stride[0];
      uint8_t* to = y + row * row_.size + column;
      if (dense())
        kernel_.run(from, to, n, params_);
      else
        run_strided(from, to, n, buffer);
    });
  }

  // Of an x that is dense throughout.
  void end(const float* x, void* const* out, std::byte*, Range rows, int64_t width) const noexcept override {
    kernel_.run(x, static_cast<uint8_t*>(out[0]) + rows.begin * width, (rows.end - rows.begin) * width, params_);
  }

  size_t scratch_bytes() const noexcept override { return dense() ? 0 : kGather * sizeof(float); }
  int64_t cost() const noexcept override { return 5 * outer_.count() * row_.size; }
  std::vector<const char*> kernels() const override { return {kernel_.name}; }
  std::string details() const override { return dense() ? "" : "strided"; }

 private:
  bool dense() const noexcept { return row_.stride[0] == 1 || row_.size == 1; }

  void run_strided(const float* x, uint8_t* y, int64_t n, float* buffer) const noexcept {
    for (int64_t done = 0; done < n; done += kGather) {
      const int64_t piece = std::min(kGather, n - done);
      for (int64_t i = 0; i < piece; ++i) buffer[i] = x[(done + i) * row_.stride[0]];
      kernel_.run(buffer, y + done, piece, params_);
    }
  }

  QuantizeParams params_;
  Nest<1>::Loop row_;
  Nest<1> outer_;
  Kernel<Quantize> kernel_;
};

// [pixels, dense][channels, planes apart] to channels last.
class QuantizePlanar final : public Work {
 public:
  QuantizePlanar(Nest<1> nest, const QuantizeParams& params, Isa isa)
      : params_(params),
        channels_(nest.pop()),
        pixels_(nest.pop().size),
        outer_(nest),
        planar3_(select<QuantizePlanar3>(isa)),
        kernel_(select<Quantize>(isa)),
        transpose_(move::select<TransposeU8>(isa)) {}

  void run(const void* const* in, void* const* out, std::byte* scratch, int tid, int threads) const noexcept override {
    const auto* x = static_cast<const float*>(in[0]);
    auto* y = static_cast<uint8_t*>(out[0]);
    const Range part = split(outer_.count() * pixels_, tid, threads, 64);
    for_each_row(part, outer_, pixels_, [&](const int64_t* offset, int64_t row, int64_t pixel, int64_t n) {
      const float* from = x + offset[0] + pixel;
      uint8_t* to = y + (row * pixels_ + pixel) * channels_.size;
      if (channels_.size == 3)
        planar3_.run(from, channels_.stride[0], to, n, params_);
      else
        run_tiles(from, to, n, reinterpret_cast<uint8_t*>(scratch));
    });
  }

  size_t scratch_bytes() const noexcept override { return channels_.size == 3 ? 0 : kBlock * kBlock; }
  int64_t cost() const noexcept override { return 5 * outer_.count() * pixels_ * channels_.size; }
  std::vector<const char*> kernels() const override {
    if (channels_.size == 3) return {planar3_.name};
    return {kernel_.name, transpose_.name};
  }

 private:
  void run_tiles(const float* x, uint8_t* y, int64_t n, uint8_t* tile) const noexcept {
    for (int64_t p = 0; p < n; p += kBlock)
      for (int64_t c = 0; c < channels_.size; c += kBlock) {
        const int64_t pixels = std::min(kBlock, n - p), channels = std::min(kBlock, channels_.size - c);
        for (int64_t i = 0; i < channels; ++i)
          kernel_.run(x + (c + i) * channels_.stride[0] + p, tile + i * kBlock, pixels, params_);
        transpose_.run(tile, kBlock, y + p * channels_.size + c, channels_.size, channels, pixels);
      }
  }

  QuantizeParams params_;
  Nest<1>::Loop channels_;
  int64_t pixels_;
  Nest<1> outer_;
  Kernel<QuantizePlanar3> planar3_;
  Kernel<Quantize> kernel_;
  Kernel<TransposeU8> transpose_;
};

}  // namespace

QuantizeParams elementwise::QuantizeParams::of(float scale, int32_t zero_point) noexcept {
  const double reciprocal = 1.0 / static_cast<double>(scale);
  return {scale, zero_point, static_cast<float>(reciprocal), reciprocal};
}

Isa elementwise::QuantizeParams::isa(Isa wanted) const noexcept {
  return scale >= 0x1p-100f && scale <= 0x1p100f ? wanted : Isa::scalar;
}

std::unique_ptr<Work> plan_quantize(const Dims& shape, const Dims& strides, float scale, int32_t zero_point, Isa isa) {
  if (shape.size() != strides.size()) throw std::invalid_argument("shape and strides of different rank");
  element_count(shape);
  const QuantizeParams params = quantize_params(scale, zero_point);
  const Dims of_x[] = {strides};
  const Nest<1> nest = collapse(shape, of_x);
  const int r = nest.rank;
  if (r >= 2 && nest.stride[0][r - 1] != 1 && nest.stride[0][r - 2] == 1)
    return std::make_unique<QuantizePlanar>(nest, params, params.isa(isa));
  return std::make_unique<QuantizeRows>(nest, params, params.isa(isa));
}

}  // namespace qfx
