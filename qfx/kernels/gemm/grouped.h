#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

#include "core/aligned.h"
#include "core/packed.h"
#include "gemm/in_order.h"
#include "gemm/linear.h"

namespace qfx::gemm {

// Throws std::invalid_argument where the sizes of a layer do not fit together.
void require_fitting(const GroupedLinear& layer);

// Code i of those that are stored in so many bits.
int code_at(std::span<const std::byte> codes, int bits, int64_t i) noexcept;

// The integer weights of a layer, with a scale and a zero point for each group of features, in panels of columns. They
// stay as wide as they are.
class GroupedWeights {
 public:
  // The layer is checked.
  GroupedWeights(const GroupedLinear& layer, Isa isa);

  int64_t panel_columns() const noexcept { return vectors_ * kHalfLanes; }
  const char* kernel_name() const noexcept { return kernel_.name; }
  size_t bytes() const noexcept {
    return weights_.size() + scales_.size() + zero_points_.size() + bias_.size() * sizeof(float);
  }

  // y[row * y_row + column of the panel]
  void multiply(int64_t panel, const float* x, int64_t x_row, int64_t rows, float* y, int64_t y_row) const noexcept;

 private:
  void pack_codes(const GroupedLinear& layer, std::byte* codes) const;
  void pack_groups(const GroupedLinear& layer);
  int64_t panel_bytes() const noexcept;
  // Where a column begins in what has so many elements of it.
  int64_t place(int64_t column, int64_t each) const noexcept;

  int64_t features_, group_;
  int bits_, vectors_;
  bool half_scale_;
  PackedArray<std::byte> weights_;
  AlignedVector<std::byte> scales_;
  AlignedVector<int8_t> zero_points_;
  AlignedVector<float> bias_;
  const InOrderKernel& kernel_;
};

}  // namespace qfx::gemm
