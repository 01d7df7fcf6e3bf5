#include "recurrent/panels.h"

#include <cstring>
#include <stdexcept>

namespace qfx::recurrent {
namespace {

void check(const RowWeights& w, int64_t rows, int64_t features) {
  const auto size = [](const auto& span) { return static_cast<int64_t>(span.size()); };
  if (rows < 1 || features < 1) throw std::invalid_argument("weights without a row or a feature");
  if (features > gemm::kDynamicFeatures) throw std::invalid_argument("more than 32768 features");

  const bool half = !w.halves.empty();
  const bool fits = half ? size(w.halves) == rows * features
                         : size(w.codes) == rows * features && size(w.scale) == rows &&
                               (w.zero_point.empty() || size(w.zero_point) == rows);
  if (!fits) throw std::invalid_argument("weights, scales or zero points of another size than the layer");
  for (const int32_t z : w.zero_point)
    if (z < -128 || z > 127) throw std::invalid_argument("a weight's zero point that is not an int8");
}

}  // namespace

PanelMatrix::PanelMatrix(const RowWeights& weights, int64_t rows, int64_t features, int64_t panels, int64_t columns,
                         const RowOf& row_of, const std::vector<std::function<float(int64_t)>>& biases, Isa isa)
    : features_(features), panels_(panels), columns_(columns), extent_(elementwise::select<elementwise::Extent>(isa)) {
  check(weights, rows, features);
  gemm::DynamicColumns all{weights.codes, features, {}, {}, {}, {}, columns};
  for (int64_t i = 0; i < panels * columns; ++i) {
    const int64_t row = row_of(i / columns, i % columns);
    all.row.push_back(row);
    all.bias.push_back(0.0f);
    for (const auto& bias : biases) all.bias.back() += row < 0 ? 0.0f : bias(row);
    if (!weights.halves.empty()) continue;
    all.scale.push_back(row < 0 ? 0.0f : weights.scale[static_cast<size_t>(row)]);
    if (weights.zero_point.empty()) continue;
    all.zero_point.push_back(row < 0 ? 0 : weights.zero_point[static_cast<size_t>(row)]);
  }
  if (weights.halves.empty()) {
    codes_.emplace(all, gemm::kernel_for(all, gemm::SingleRows::always, isa), isa);
  } else {
    half_.emplace(weights.halves, features, all.row, all.bias, columns, isa);
  }
}

Affine PanelMatrix::affine(const Rows& x, int64_t n) const noexcept {
  if (half_) return {1.0f, 0};
  float low = 0.0f, high = 0.0f;
  const bool dense = x.first >= n && x.stride == features_;
  if (dense) {
    extent_.run(x[0], n * features_, &low, &high);
  } else {
    for (int64_t r = 0; r < n; ++r) extent_.run(x[r], features_, &low, &high);
  }
  return affine_of(low, high);
}

Operand PanelMatrix::operand(const Rows& x, int64_t n, const std::optional<Affine>& affine,
                             std::byte* room) const noexcept {
  if (half_) return floats(x, n, room);
  Operand operand;
  operand.codes = codes_->layout().rows_in(room, n);
  operand.codes.uniform = affine || n == 1;
  for (int64_t r = 0; r < n; ++r) {
    const gemm::RowQuantizer quantizer = codes_->quantizer(affine ? *affine : this->affine(x.from(r), 1));
    codes_->layout().quantize(x[r], quantizer, operand.codes, r);
  }
  return operand;
}

Operand PanelMatrix::floats(const Rows& x, int64_t n, std::byte* room) const noexcept {
  Operand operand;
  if (x.first >= n) {
    operand.x = x.base;
    operand.stride = x.stride;
    return operand;
  }
  auto* copy = reinterpret_cast<float*>(room);
  for (int64_t r = 0; r < n; ++r)
    std::memcpy(copy + r * features_, x[r], static_cast<size_t>(features_) * sizeof(float));
  operand.x = copy;
  operand.stride = features_;
  return operand;
}

size_t PanelMatrix::operand_bytes(int64_t n) const noexcept {
  if (half_) return static_cast<size_t>(in_lines(n * features_ * static_cast<int64_t>(sizeof(float))));
  return codes_->layout().room_bytes(n);
}

size_t PanelMatrix::packed_bytes() const noexcept {
  return half_ ? half_->bytes() : codes_->bytes();
}

void PanelMatrix::add_kernels(std::vector<const char*>& names) const {
  if (half_) {
    names.push_back(half_->kernel_name());
  } else {
    codes_->add_kernels(names);
    names.push_back(extent_.name);
  }
}

PanelProduct::PanelProduct(const PanelMatrix& matrix, const Operand& operand, int64_t y_stride) noexcept
    : matrix_(matrix), operand_(operand), y_stride_(y_stride) {
  gemm::DynamicOutput out;
  out.y_row = y_stride;
  if (!matrix.half()) codes_.emplace(*matrix.codes_, operand.codes, out);
}

void PanelProduct::run(int64_t panel, int64_t first, int64_t rows, float* y) noexcept {
  if (!codes_) {
    return matrix_.half_->multiply(panel, operand_.x + first * operand_.stride, operand_.stride, rows, y, y_stride_);
  }
  const auto& panels = matrix_.codes_->weights().panels();
  const int64_t each = static_cast<int64_t>(panels.size()) / matrix_.panels_, begin = panel * each;
  for (int64_t i = begin; i < begin + each; ++i) {
    codes_->run(i, first, rows, y + panels[static_cast<size_t>(i)].first - panel * matrix_.columns_);
  }
}

}  // namespace qfx::recurrent
