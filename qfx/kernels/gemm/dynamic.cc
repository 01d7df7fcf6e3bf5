#include "gemm/dynamic.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "gemm/rows.h"

namespace qfx::gemm {
namespace {

constexpr int64_t kSetBytes = 1024;  // rows that lie a multiple of it apart meet in few sets of a cache

Matrix matrix_of(const DynamicColumns& from) {
  Matrix matrix{{}, from.segment, 1, from.features, from.features};
  for (const int64_t row : from.row) {
    matrix.columns.push_back({row < 0 ? nullptr : from.weights.data() + row * from.features, 0, 0});
  }
  return matrix;
}

// Of each column's weights less their zero point.
std::vector<int32_t> sums_of(const DynamicColumns& from) {
  std::vector<int32_t> sums;
  for (size_t c = 0; c < from.row.size(); ++c) {
    int32_t sum = 0;
    if (from.row[c] >= 0) {
      const int8_t* w = from.weights.data() + from.row[c] * from.features;
      for (int64_t i = 0; i < from.features; ++i) sum += w[i];
      if (!from.zero_point.empty()) sum -= static_cast<int32_t>(from.features) * from.zero_point[c];
    }
    sums.push_back(sum);
  }
  return sums;
}

}  // namespace

const TileKernel& kernel_for(const DynamicColumns& columns, SingleRows single_rows, Isa isa) {
  Demand demand;
  demand.columns = columns.segment;
  demand.reduction = demand.run = columns.features;
  demand.single_rows = single_rows;
  return *select(kernels(), demand, isa);
}

RowQuantizer::RowQuantizer(const Affine& affine, Isa isa) noexcept
    : scale_(std::isfinite(affine.scale) ? affine.scale : std::numeric_limits<float>::quiet_NaN()),
      params_(elementwise::QuantizeParams::of(std::isfinite(affine.scale) ? affine.scale : 1.0f, affine.zero_point)),
      kernel_(elementwise::select<elementwise::Quantize>(params_.isa(isa))) {}

DynamicWeights::DynamicWeights(const DynamicColumns& from, const TileKernel& kernel, Isa isa,
                               std::span<const TileKernel> kernels)
    : features_(from.features),
      stride_(in_lines(kernel.steps(from.features) * kernel.depth * kernel.bytes)),
      centered_(std::ranges::all_of(from.zero_point, [](int32_t z) { return z == 0; })),
      isa_(isa),
      weights_(kernel, matrix_of(from), kernels),
      starts_(weights_.starts({})),
      sum_(weights_.laid_out<int32_t>(sums_of(from))),
      scale_(weights_.laid_out<float>(from.scale)),
      bias_(weights_.laid_out<float>(from.bias)) {
  if (!centered_) zero_point_ = weights_.laid_out<int32_t>(from.zero_point);
  if (stride_ % kSetBytes == 0) stride_ += 64;
}

size_t DynamicWeights::bytes() const noexcept {
  return weights_.bytes() + (starts_.size() + sum_.size() + zero_point_.size()) * sizeof(int32_t) +
         (scale_.size() + bias_.size()) * sizeof(float);
}

void DynamicWeights::add_kernels(std::vector<const char*>& names) const {
  const std::vector<const char*> tiles = names_of_kernels(weights_.panels());
  names.insert(names.end(), tiles.begin(), tiles.end());
  names.push_back(elementwise::select<elementwise::Quantize>(isa_).name);
}

size_t DynamicWeights::room_bytes(int64_t rows) const noexcept {
  const int64_t narrow = weights_.kernel().bytes == 1 ? 0 : in_lines(features_);
  return static_cast<size_t>(in_lines(rows * stride_ + kReadSlack) + 3 * in_lines(rows * 4) + narrow);
}

DynamicRows DynamicWeights::rows_in(std::byte* room, int64_t rows) const noexcept {
  DynamicRows r;
  r.codes = room;
  r.stride = stride_;
  room += in_lines(rows * stride_ + kReadSlack);
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

void DynamicWeights::quantize(const float* x, const RowQuantizer& quantizer, const DynamicRows& rows,
                              int64_t row) const noexcept {
  const bool wide = weights_.kernel().bytes != 1;
  std::byte* to = rows.codes + row * rows.stride;
  auto* codes = wide ? rows.narrow : reinterpret_cast<uint8_t*>(to);
  quantizer.run(x, codes, features_);
  if (wide) widen(codes, features_, reinterpret_cast<int16_t*>(to));
  rows.scale[row] = quantizer.scale();
  rows.zero_point[row] = quantizer.zero_point();
  if (!centered_) rows.sum[row] = sum_of(codes, features_);
}

void DynamicWeights::set_columns(Tile& tile, const Panel& panel) const noexcept {
  tile.start = starts_.data() + panel.vectors;
  tile.out.multiplier = scale_.data() + panel.vectors;
  tile.out.dynamic.column_sum = sum_.data() + panel.vectors;
  tile.out.dynamic.column_zero_point = centered_ ? nullptr : zero_point_.data() + panel.vectors;
  tile.out.dynamic.bias = bias_.data() + panel.vectors;
}

void DynamicWeights::multiply(Range panels, const DynamicRows& x, int64_t rows,
                              const DynamicOutput& out) const noexcept {
  DynamicProduct product(*this, x, out);
  const auto place = [&](Tile& tile, const Panel& panel) {
    set_columns(tile, panel);
    tile.out.y = out.y + panel.first;
    tile.out.dynamic.addend = out.addend == nullptr ? nullptr : out.addend + panel.first;
  };
  if (rows == 1) panels.begin = weights_.in_streams(panels, product.tile_, place);
  weights_.for_each_panel(panels, product.tile_, rows, [&](Tile& tile, const Panel& panel, int64_t) {
    place(tile, panel);
    panel.kernel->run(tile, rows);
  });
}

DynamicProduct::DynamicProduct(const DynamicWeights& weights, const DynamicRows& x, const DynamicOutput& out) noexcept
    : w_(weights), x_(x) {
  epilogue_.f32_output = true;
  epilogue_.f32_lo = out.lo;
  epilogue_.f32_hi = out.hi;
  tile_.a = x.codes;
  tile_.a_row = x.stride;
  tile_.taps = taps_;
  tile_.tap_count = 1;
  tile_.steps = weights.weights().steps();
  tile_.out.y_row = out.y_row;
  tile_.out.epilogue = &epilogue_;
  tile_.out.dynamic.scale = x.scale;
  tile_.out.dynamic.zero_point = x.zero_point;
  tile_.out.dynamic.row_sum = x.sum;
  tile_.out.dynamic.uniform = x.uniform;
  tile_.out.dynamic.addend_row = out.addend_row;
}

void DynamicProduct::run(int64_t panel, int64_t first, int64_t rows, float* y) noexcept {
  const Panel& p = w_.weights().panels()[static_cast<size_t>(panel)];
  w_.weights().set_panel(tile_, p);
  w_.set_columns(tile_, p);
  tile_.a = x_.codes + first * x_.stride;
  tile_.out.y = y;
  tile_.out.dynamic.scale = x_.scale + first;
  tile_.out.dynamic.zero_point = x_.zero_point + first;
  tile_.out.dynamic.row_sum = x_.sum + first;
  p.kernel->run(tile_, rows);
}

}  // namespace qfx::gemm
