#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

#include "core/aligned.h"
#include "core/isa.h"
#include "core/packed.h"
#include "gemm/in_order.h"

namespace qfx::gemm {

// Rows of weights of 16 bits [rows][features] in panels of columns.
class HalfWeights {
 public:
  // column_row[i]: the row of column i, or -1: none, the result is the bias. Panels are `panel` columns wide, a
  // multiple of kHalfLanes. `stored`: f16 or bf16.
  HalfWeights(std::span<const uint16_t> weights, int64_t features, std::span<const int64_t> column_row,
              std::span<const float> column_bias, int64_t panel, Isa isa, Stored stored = Stored::f16);

  int64_t panel_columns() const noexcept { return vectors_ * kHalfLanes; }
  const char* kernel_name() const noexcept { return kernel_.name; }
  size_t bytes() const noexcept { return weights_.size() + bias_.size() * sizeof(float); }

  // y[row * y_row + column of the panel]
  void multiply(int64_t panel, const float* x, int64_t x_row, int64_t rows, float* y, int64_t y_row) const noexcept;

 private:
  int64_t features_;
  int vectors_;
  PackedArray<std::byte> weights_;
  AlignedVector<float> bias_;
  const InOrderKernel& kernel_;
};

}  // namespace qfx::gemm
