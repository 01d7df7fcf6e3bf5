#include "gemm/half.h"

#include <algorithm>
#include <cstring>

#include "core/split.h"

namespace qfx::gemm {

HalfWeights::HalfWeights(std::span<const uint16_t> weights, int64_t features, std::span<const int64_t> column_row,
                         std::span<const float> column_bias, int64_t panel, Isa isa, Stored stored)
    : features_(features), vectors_(static_cast<int>(panel / kHalfLanes)), kernel_(in_order_kernel(stored, isa)) {
  const auto columns = static_cast<int64_t>(column_row.size());
  const int64_t panels = ceil_div(columns, panel);
  bias_.resize(static_cast<size_t>(panels * panel));
  std::copy_n(column_bias.begin(), columns, bias_.begin());
  weights_ = {static_cast<size_t>(panels * panel * features) * sizeof(uint16_t), [&](std::byte* packed) {
                for (int64_t i = 0; i < columns; ++i) {
                  const int64_t row = column_row[static_cast<size_t>(i)];
                  if (row < 0) continue;
                  const uint16_t* from = weights.data() + row * features;
                  std::byte* to = packed + (i / panel * panel * features + i % panel) * 2;
                  for (int64_t k = 0; k < features; ++k) std::memcpy(to + k * panel * 2, from + k, sizeof(uint16_t));
                }
              }};
}

void HalfWeights::multiply(int64_t panel, const float* x, int64_t x_row, int64_t rows, float* y,
                           int64_t y_row) const noexcept {
  const int64_t columns = panel_columns();
  const InOrderPanel p{.weight = weights_.data() + panel * columns * features_ * 2,
                       .steps = features_,
                       .vectors = vectors_,
                       .bias = bias_.data() + panel * columns,
                       .group = features_};
  kernel_.run(p, x, x_row, rows, y, y_row);
}

}  // namespace qfx::gemm
