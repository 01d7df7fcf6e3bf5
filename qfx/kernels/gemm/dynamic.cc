#include "gemm/dynamic.h"

#include <algorithm>

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
PackedArray<int32_t> sums_of(const DynamicColumns& from) {
  return {from.row.size(), [&](int32_t* sums) {
            for (size_t c = 0; c < from.row.size(); ++c) {
              if (from.row[c] < 0) continue;
              const int8_t* w = from.weights.data() + from.row[c] * from.features;
              for (int64_t i = 0; i < from.features; ++i) sums[c] += w[i];
              if (!from.zero_point.empty()) sums[c] -= static_cast<int32_t>(from.features) * from.zero_point[c];
            }
          }};
}

RowLayout layout_for(const DynamicColumns& from, const TileKernel& kernel) {
  RowLayout layout;
  layout.features = from.features;
  layout.stride = in_lines(kernel.steps(from.features) * kernel.depth * kernel.bytes);
  if (layout.stride % kSetBytes == 0) layout.stride += 64;
  layout.wide = kernel.bytes != 1;
  layout.sums = std::ranges::any_of(from.zero_point, [](int32_t z) { return z != 0; });
  return layout;
}

}  // namespace

const TileKernel& kernel_for(const DynamicColumns& columns, SingleRows single_rows, Isa isa) {
  Demand demand;
  demand.columns = columns.segment;
  demand.reduction = demand.run = columns.features;
  demand.single_rows = single_rows;
  return *select(kernels(), demand, isa);
}

Share share_of(int64_t rows, const Weights& weights, int tid, int threads) noexcept {
  const int64_t tile = weights.kernel().rows, panels = weights.panel_count();
  if (slowest_share(panels, threads) < kClearlyLess * slowest_share(ceil_div(rows, tile), threads)) {
    return {{0, rows}, split(panels, tid, threads)};
  }
  return {split(rows, tid, threads, tile), {0, panels}};
}

DynamicWeights::DynamicWeights(const DynamicColumns& from, const TileKernel& kernel, Isa isa,
                               std::span<const TileKernel> kernels)
    : layout_(layout_for(from, kernel)),
      isa_(isa),
      weights_(kernel, matrix_of(from), kernels),
      starts_(weights_.starts({})),
      sum_(weights_.laid_out(std::span<const int32_t>(sums_of(from)))),
      scale_(weights_.laid_out<float>(from.scale)),
      bias_(weights_.laid_out<float>(from.bias)) {
  if (layout_.sums) zero_point_ = weights_.laid_out<int32_t>(from.zero_point);
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

void DynamicWeights::set_columns(Tile& tile, const Panel& panel) const noexcept {
  tile.start = starts_.data() + panel.vectors;
  tile.out.multiplier = scale_.data() + panel.vectors;
  tile.out.dynamic.column_sum = sum_.data() + panel.vectors;
  tile.out.dynamic.column_zero_point = layout_.sums ? zero_point_.data() + panel.vectors : nullptr;
  tile.out.dynamic.bias = bias_.data() + panel.vectors;
}

void DynamicWeights::multiply(Range panels, const DynamicRows& x, int64_t rows,
                              const DynamicOutput& out) const noexcept {
  DynamicProduct product(*this, x, out);
  const auto place = [&](Tile& tile, const Panel& panel) {
    set_columns(tile, panel);
    tile.out.y = out.y + panel.first;
    tile.out.addend = out.addend == nullptr ? nullptr : out.addend + panel.first;
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
  tile_.out.addend_row = out.addend_row;
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
