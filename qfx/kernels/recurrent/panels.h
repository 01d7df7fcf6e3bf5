#pragma once
#include <functional>
#include <optional>
#include <vector>

#include "core/affine.h"
#include "gemm/dynamic.h"
#include "gemm/half.h"
#include "recurrent/kernels.h"
#include "recurrent/recurrent.h"

namespace qfx::recurrent {

// Rows of floats in up to two places: row r < first is base + r * stride, any other rest + r * rest_stride.
struct Rows {
  const float* base = nullptr;
  int64_t stride = 0;
  int64_t first = 0;
  const float* rest = nullptr;
  int64_t rest_stride = 0;

  const float* operator[](int64_t r) const noexcept { return r < first ? base + r * stride : rest + r * rest_stride; }
  Rows from(int64_t r) const noexcept {
    return {base + r * stride, stride, first - r, rest == nullptr ? nullptr : rest + r * rest_stride, rest_stride};
  }
};

// What a product takes: quantized rows, or floats where the weights are float16.
struct Operand {
  gemm::DynamicRows codes;
  const float* x = nullptr;
  int64_t stride = 0;
};

// A matrix of weights in panels of hidden units, each with all of its gates.
class PanelMatrix {
 public:
  // Panel and column to the row of the weights, or -1: none, the result is 0.
  using RowOf = std::function<int64_t(int64_t panel, int64_t column)>;

  // `biases` are added up, in float32, where they are not empty. Throws std::invalid_argument for sizes that do not
  // fit.
  PanelMatrix(const RowWeights& weights, int64_t rows, int64_t features, int64_t panels, int64_t columns,
              const RowOf& row_of, const std::vector<std::function<float(int64_t row)>>& biases, Isa isa);

  int64_t panels() const noexcept { return panels_; }
  int64_t columns() const noexcept { return columns_; }
  bool half() const noexcept { return half_.has_value(); }

  // Scale and zero point for n rows, from their extent. Not finite: NaN.
  Affine affine(const Rows& x, int64_t n) const noexcept;
  // The rows as multiply() takes them, in `room` (operand_bytes()), by `affine`, or each by its own extent where there
  // is none; float16 needs neither.
  Operand operand(const Rows& x, int64_t n, const std::optional<Affine>& affine, std::byte* room) const noexcept;
  size_t operand_bytes(int64_t n) const noexcept;

  size_t packed_bytes() const noexcept;
  // Adds the names of those that multiply() and operand() run.
  void add_kernels(std::vector<const char*>& names) const;

 private:
  friend class PanelProduct;

  Operand floats(const Rows& x, int64_t n, std::byte* room) const noexcept;

  int64_t features_, panels_, columns_;
  Kernel<elementwise::Extent> extent_;
  std::optional<gemm::DynamicWeights> codes_;
  std::optional<gemm::HalfWeights> half_;
};

// A matrix by an operand, panel by panel. Both must outlive it.
class PanelProduct {
 public:
  PanelProduct(const PanelMatrix& matrix, const Operand& operand, int64_t y_stride) noexcept;

  // y[row * y_stride + column], for the operand's rows [first, first + rows) and the columns of a panel.
  void run(int64_t panel, int64_t first, int64_t rows, float* y) noexcept;

 private:
  const PanelMatrix& matrix_;
  const Operand& operand_;
  int64_t y_stride_;
  std::optional<gemm::DynamicProduct> codes_;
};

}  // namespace qfx::recurrent
