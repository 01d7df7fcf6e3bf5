#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "core/aligned.h"
#include "core/isa.h"

namespace qfx::gemm {

constexpr int64_t kHalfLanes = 16;   // columns of a vector
constexpr int64_t kHalfVectors = 4;  // of a panel at most

// Float16 weights of `vectors` * kHalfLanes columns: [step][vector][kHalfLanes].
struct HalfPanel {
  const std::byte* weight = nullptr;
  int64_t steps = 0;
  int vectors = 0;
  const float* bias = nullptr;
};

// y[row * y_row + o] = ((0 + x[0] * w[0]) + x[1] * w[1]) + ... + bias[o] in float32
using HalfFn = void(const HalfPanel& panel, const float* x, int64_t x_row, int64_t rows, float* y,
                    int64_t y_row) noexcept;

struct HalfKernel {
  const char* name;
  Isa isa;
  HalfFn* run;
};

// The kernel for a level.
const HalfKernel& half_kernel(Isa isa) noexcept;

// Rows of float16 weights [rows][features] in panels of columns.
class HalfWeights {
 public:
  // column_row[i]: the row of column i, or -1: none, the result is the bias. Panels are `panel` columns wide, a
  // multiple of kHalfLanes.
  HalfWeights(std::span<const uint16_t> weights, int64_t features, std::span<const int64_t> column_row,
              std::span<const float> column_bias, int64_t panel, Isa isa);

  int64_t panel_columns() const noexcept { return vectors_ * kHalfLanes; }
  const char* kernel_name() const noexcept { return kernel_.name; }
  size_t bytes() const noexcept { return weights_.size() + bias_.size() * sizeof(float); }

  // y[row * y_row + column of the panel]
  void multiply(int64_t panel, const float* x, int64_t x_row, int64_t rows, float* y, int64_t y_row) const noexcept;

 private:
  int64_t features_;
  int vectors_;
  AlignedVector<std::byte> weights_;
  AlignedVector<float> bias_;
  const HalfKernel& kernel_;
};

#define QFX_GEMM_HALF(name, isa) HalfFn name;
#include "gemm/kernels.inc"

}  // namespace qfx::gemm
