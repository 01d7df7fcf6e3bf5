#include "gemm/quantized_rows.h"

#include <cmath>
#include <limits>
#include <vector>

#include "core/aligned.h"
#include "core/row_work.h"
#include "core/split.h"
#include "gemm/rows.h"
#include "gemm/tile.h"

namespace qfx {
namespace gemm {

RowQuantizer::RowQuantizer(const Affine& affine, Isa isa) noexcept
    : scale_(std::isfinite(affine.scale) ? affine.scale : std::numeric_limits<float>::quiet_NaN()),
      params_(elementwise::QuantizeParams::of(std::isfinite(affine.scale) ? affine.scale : 1.0f, affine.zero_point)),
      kernel_(elementwise::select<elementwise::Quantize>(params_.isa(isa))) {}

size_t RowLayout::room_bytes(int64_t rows) const noexcept {
  const int64_t narrow = wide ? in_lines(features) : 0;
  return static_cast<size_t>(in_lines(rows * stride + kReadSlack) + 3 * in_lines(rows * 4) + narrow);
}

DynamicRows RowLayout::rows_in(std::byte* room, int64_t rows) const noexcept {
  DynamicRows r;
  r.codes = room;
  r.stride = stride;
  room += in_lines(rows * stride + kReadSlack);
  const auto next = [&] {
    std::byte* at = room;
    room += in_lines(rows * 4);
    return at;
  };
  r.scale = reinterpret_cast<float*>(next());
  r.zero_point = reinterpret_cast<int32_t*>(next());
  r.sum = reinterpret_cast<int32_t*>(next());
  r.narrow = reinterpret_cast<uint8_t*>(room);
  return r;
}

void RowLayout::quantize(const float* x, const RowQuantizer& quantizer, const DynamicRows& rows,
                         int64_t row) const noexcept {
  std::byte* to = rows.codes + row * stride;
  auto* codes = wide ? rows.narrow : reinterpret_cast<uint8_t*>(to);
  quantizer.run(x, codes, features);
  if (wide) widen(codes, features, reinterpret_cast<int16_t*>(to));
  rows.scale[row] = quantizer.scale();
  rows.zero_point[row] = quantizer.zero_point();
  if (sums) rows.sum[row] = sum_of(codes, features);
}

}  // namespace gemm

namespace {

class QuantizeRowsWork final : public Work, public RowEnd {
 public:
  QuantizeRowsWork(const QuantizedRows& how, int64_t rows)
      : layout_(how.layout), isa_(how.isa), rows_(rows), extent_(elementwise::select<elementwise::Extent>(how.isa)) {}

  void run(const void* const* in, void* const* out, std::byte* scratch, int tid, int threads) const noexcept override {
    const Range part = split(rows_, tid, threads);
    const int64_t n = layout_.features;
    end(static_cast<const float*>(in[0]) + part.begin * n, out, scratch, part, n);
  }
  void end(const float* x, void* const* out, std::byte* scratch, Range rows, int64_t n) const noexcept override {
    gemm::DynamicRows to = layout_.rows_in(static_cast<std::byte*>(out[0]), rows_);
    to.narrow = reinterpret_cast<uint8_t*>(scratch);
    for (int64_t r = rows.begin; r < rows.end; ++r, x += n) {
      float low = 0.0f, high = 0.0f;
      extent_.run(x, n, &low, &high);
      layout_.quantize(x, {affine_of(low, high), isa_}, to, r);
    }
  }

  size_t scratch_bytes() const noexcept override { return layout_.wide ? static_cast<size_t>(layout_.features) : 0; }
  int64_t cost() const noexcept override { return 6 * rows_ * layout_.features; }
  std::vector<const char*> kernels() const override {
    return {elementwise::select<elementwise::Quantize>(isa_).name, extent_.name};
  }

 private:
  gemm::RowLayout layout_;
  Isa isa_;
  int64_t rows_;
  Kernel<elementwise::Extent> extent_;
};

}  // namespace

std::unique_ptr<Work> QuantizedRows::plan(int64_t rows) const {
  return std::make_unique<QuantizeRowsWork>(*this, rows);
}

}  // namespace qfx
