#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "core/kernel.h"
#include "core/split.h"
#include "gemm/quantized_rows.h"
#include "gemm/select.h"
#include "gemm/weights.h"

namespace qfx::gemm {

constexpr int64_t kDynamicFeatures = 1 << 15;  // at most: sums of 255 * 255 stay below 2^31
constexpr int64_t kDynamicBytes = 192 * 1024;  // of codes in flight while the panels pass over them

// int8 weights [rows][features] with a scale (and a zero point) a row, as columns of a product. They are read while
// they are packed, and not kept.
struct DynamicColumns {
  std::span<const int8_t> weights;
  int64_t features = 0;
  std::vector<int64_t> row;         // of each column; -1: none, whose sums are 0
  std::vector<float> scale;         // of each column
  std::vector<int32_t> zero_point;  // of each column; or empty: all 0
  std::vector<float> bias;          // of each column
  int64_t segment = 0;              // columns: panels end at its multiples
};

// The kernel for them on a level. single_rows: see Demand.
const TileKernel& kernel_for(const DynamicColumns& columns, SingleRows single_rows, Isa isa);

// Where a product of rows goes, and what else is added.
struct DynamicOutput {
  float* y = nullptr;             // of the first row and column
  int64_t y_row = 0;              // elements between rows
  const float* addend = nullptr;  // placed as y is; or null
  int64_t addend_row = 0;
  float lo = -__builtin_inff();
  float hi = __builtin_inff();
};

// What is added where there is no bias: it leaves zeros of either sign as they are.
constexpr float kNoBias = -0.0f;

// What a thread computes: rows by panels. Parts are rows, or panels where there are too few rows: then each part
// quantizes them all.
struct Share {
  Range rows, panels;
  bool empty() const noexcept { return rows.begin == rows.end || panels.begin == panels.end; }
};
Share share_of(int64_t rows, const Weights& weights, int tid, int threads) noexcept;

// Weights that multiply rows which are quantized as they come:
//   y = float(sum (q - zero_point) * (w - weight_zero_point)) * (scale * weight_scale) + bias (+ addend), in [lo, hi]
// with exact sums and each float operation rounded on its own (see Dynamic).
class DynamicWeights {
 public:
  // For up to kDynamicFeatures features. The kernels must outlive it; floats are read on level `isa`.
  DynamicWeights(const DynamicColumns& columns, const TileKernel& kernel, Isa isa,
                 std::span<const TileKernel> kernels = gemm::kernels());

  const Weights& weights() const noexcept { return weights_; }
  int64_t features() const noexcept { return layout_.features; }
  size_t bytes() const noexcept;
  // Adds the names of those that multiply() and quantizer() run.
  void add_kernels(std::vector<const char*>& names) const;

  const RowLayout& layout() const noexcept { return layout_; }
  RowQuantizer quantizer(const Affine& affine) const noexcept { return {affine, isa_}; }

  // The first rows of x by the columns of some panels.
  void multiply(Range panels, const DynamicRows& x, int64_t rows, const DynamicOutput& out) const noexcept;

 private:
  friend class DynamicProduct;

  void set_columns(Tile& tile, const Panel& panel) const noexcept;

  RowLayout layout_;
  Isa isa_;
  Weights weights_;
  AlignedVector<int32_t> starts_, sum_, zero_point_;
  AlignedVector<float> scale_, bias_;
};

// The same panel by panel, for who goes on with a panel's results before the next: all but the panel is prepared once.
class DynamicProduct {
 public:
  // All of them must outlive it. Of `out`, y and addend are not used.
  DynamicProduct(const DynamicWeights& weights, const DynamicRows& x, const DynamicOutput& out) noexcept;
  DynamicProduct(const DynamicProduct&) = delete;
  DynamicProduct& operator=(const DynamicProduct&) = delete;

  // Rows [first, first + rows) by a panel's columns, from y on.
  void run(int64_t panel, int64_t first, int64_t rows, float* y) noexcept;

 private:
  friend class DynamicWeights;

  const DynamicWeights& w_;
  const DynamicRows& x_;
  int64_t taps_[1] = {0};
  Epilogue epilogue_;
  Tile tile_;
};

}  // namespace qfx::gemm
