#include <algorithm>
#include <stdexcept>

#include "core/nest.h"
#include "elementwise/kernels.h"
#include "move/kernels.h"

namespace qfx {
namespace {

using namespace elementwise;
using move::TransposeU8;

constexpr int64_t kBlock = 64;     // pixels and channels of one tile of a layout change
constexpr int64_t kGather = 1024;  // strided elements collected at a time

struct DequantizeParams {
  float scale;
  int32_t zero_point;
};

// Rows that are dense in x, or gathered piece by piece.
class DequantizeRows final : public Work {
 public:
  DequantizeRows(Nest<1> nest, const DequantizeParams& params, Isa isa)
      : params_(params), row_(nest.pop()), outer_(nest), kernel_(select<Dequantize>(isa)) {}

  void run(const void* const* in, void* const* out, std::byte* scratch, int tid, int threads) const noexcept override {
    const auto* x = static_cast<const uint8_t*>(in[0]);
    auto* y = static_cast<float*>(out[0]);
    auto* buffer = reinterpret_cast<uint8_t*>(scratch);
    const Range part = split(outer_.count() * row_.size, tid, threads, 16);
    for_each_row(part, outer_, row_.size, [&](const int64_t* offset, int64_t row, int64_t column, int64_t n) {
      const uint8_t* from = x + offset[0] + column * row_.stride[0];
      float* to = y + row * row_.size + column;
      if (dense())
        kernel_.run(from, to, n, params_.scale, params_.zero_point);
      else
        run_strided(from, to, n, buffer);
    });
  }

  size_t scratch_bytes() const noexcept override { return dense() ? 0 : kGather; }
  int64_t cost() const noexcept override { return 5 * outer_.count() * row_.size; }
  std::vector<const char*> kernels() const override { return {kernel_.name}; }
  std::string details() const override { return dense() ? "" : "strided"; }

 private:
  bool dense() const noexcept { return row_.stride[0] == 1 || row_.size == 1; }

  void run_strided(const uint8_t* x, float* y, int64_t n, uint8_t* buffer) const noexcept {
    for (int64_t done = 0; done < n; done += kGather) {
      const int64_t piece = std::min(kGather, n - done);
      for (int64_t i = 0; i < piece; ++i) buffer[i] = x[(done + i) * row_.stride[0]];
      kernel_.run(buffer, y + done, piece, params_.scale, params_.zero_point);
    }
  }

  DequantizeParams params_;
  Nest<1>::Loop row_;
  Nest<1> outer_;
  Kernel<Dequantize> kernel_;
};

// Channels last to planes: y is [outer][channels][pixels], x dense in channels.
class DequantizePlanar final : public Work {
 public:
  DequantizePlanar(Nest<1> nest, const DequantizeParams& params, Isa isa)
      : params_(params),
        pixels_(nest.pop()),
        channels_(nest.pop().size),
        outer_(nest),
        kernel_(select<Dequantize>(isa)),
        transpose_(move::select<TransposeU8>(isa)) {}

  void run(const void* const* in, void* const* out, std::byte* scratch, int tid, int threads) const noexcept override {
    const auto* x = static_cast<const uint8_t*>(in[0]);
    auto* y = static_cast<float*>(out[0]);
    auto* tile = reinterpret_cast<uint8_t*>(scratch);
    const Range part = split(outer_.count() * pixels_.size, tid, threads, 16);
    for_each_row(part, outer_, pixels_.size, [&](const int64_t* offset, int64_t row, int64_t pixel, int64_t n) {
      run_tiles(x + offset[0] + pixel * pixels_.stride[0], y + row * channels_ * pixels_.size + pixel, n, tile);
    });
  }

  size_t scratch_bytes() const noexcept override { return kBlock * kBlock; }
  int64_t cost() const noexcept override { return 5 * outer_.count() * pixels_.size * channels_; }
  std::vector<const char*> kernels() const override { return {transpose_.name, kernel_.name}; }

 private:
  void run_tiles(const uint8_t* x, float* y, int64_t n, uint8_t* tile) const noexcept {
    for (int64_t p = 0; p < n; p += kBlock)
      for (int64_t c = 0; c < channels_; c += kBlock) {
        const int64_t pixels = std::min(kBlock, n - p), channels = std::min(kBlock, channels_ - c);
        transpose_.run(x + p * pixels_.stride[0] + c, pixels_.stride[0], tile, kBlock, pixels, channels);
        for (int64_t i = 0; i < channels; ++i)
          kernel_.run(tile + i * kBlock, y + (c + i) * pixels_.size + p, pixels, params_.scale, params_.zero_point);
      }
  }

  DequantizeParams params_;
  Nest<1>::Loop pixels_;
  int64_t channels_;
  Nest<1> outer_;
  Kernel<Dequantize> kernel_;
  Kernel<TransposeU8> transpose_;
};

}  // namespace

std::unique_ptr<Work> plan_dequantize(const Dims& shape, const std::vector<int>& perm, float scale, int32_t zero_point,
                                      Isa isa) {
  element_count(shape);
  if (shape.size() != perm.size()) throw std::invalid_argument("shape and permutation of different rank");
  std::vector<bool> seen(shape.size());
  const Dims strides = dense_strides(shape);
  Dims y_shape, y_strides[1];
  for (int d : perm) {
    if (d < 0 || d >= static_cast<int>(shape.size()) || seen[d]) throw std::invalid_argument("not a permutation");
    seen[d] = true;
    y_shape.push_back(shape[d]);
    y_strides[0].push_back(strides[d]);
  }
  const Nest<1> nest = collapse(y_shape, y_strides);
  const int r = nest.rank;
  if (r >= 2 && nest.stride[0][r - 1] != 1 && nest.stride[0][r - 2] == 1)
    return std::make_unique<DequantizePlanar>(nest, DequantizeParams{scale, zero_point}, isa);
  return std::make_unique<DequantizeRows>(nest, DequantizeParams{scale, zero_point}, isa);
}

}  // namespace qfx
