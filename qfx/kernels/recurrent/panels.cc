#include "recurrent/panels.h"

#include <cstring>
#include <limits>
#include <stdexcept>

#include "core/affine.h"

namespace qfx::recurrent {
namespace {

void check(const RowWeights& w, int64_t rows, int64_t features) {
  const auto size = [](const auto& span) { return static_cast<int64_t>(span.size()); };
  if (rows < 1 || features < 1) throw std::invalid_argument("weights without a row or a feature");
  if (features > kFeatures) throw std::invalid_argument("more than 32768 features");

  const bool half = !w.halves.empty();
  const bool fits = half ? size(w.halves) == rows * features
                         : size(w.codes) == rows * features && size(w.scale) == rows &&
                               (w.zero_point.empty() || size(w.zero_point) == rows);
  if (!fits) throw std::invalid_argument("weights, scales or zero points of another size than the layer");
  for (const int32_t z : w.zero_point)
    if (z < -128 || z > 127) throw std::invalid_argument("a weight's zero point that is not an int8");
}

size_t aligned(size_t bytes) noexcept {
  return (bytes + 63) / 64 * 64;
}

}  // namespace

Operand Operand::from(int64_t row) const noexcept {
  Operand rest = *this;
  rest.codes.x += row * codes.stride;
  if (codes.sum != nullptr) rest.codes.sum += row;
  rest.x += row * stride;
  return rest;
}

PanelMatrix::PanelMatrix(const RowWeights& weights, int64_t rows, int64_t features, int64_t panels, int vectors,
                         const RowOf& row_of, const std::vector<std::function<float(int64_t)>>& biases, Isa isa)
    : features_(features),
      panels_(panels),
      vectors_(vectors),
      half_(!weights.halves.empty()),
      isa_(isa),
      product_(select<Product>(isa)),
      half_product_(select<HalfProduct>(isa)),
      extent_(select<Extent>(isa)) {
  check(weights, rows, features);
  steps_ = half_ ? features : (features + kDepth - 1) / kDepth;
  for (const int32_t z : weights.zero_point) centered_ = centered_ && z == 0;
  const auto outputs = static_cast<size_t>(panels * columns());
  scale_.resize(outputs);
  bias_.resize(outputs);
  sum_.resize(outputs);
  if (!centered_) zero_point_.resize(outputs);
  for (size_t o = 0; o < outputs; ++o) {
    const int64_t row = row_of(static_cast<int64_t>(o) / columns(), static_cast<int64_t>(o) % columns());
    if (row < 0) continue;
    for (const auto& bias : biases) bias_[o] += bias(row);
    if (!half_) scale_[o] = weights.scale[static_cast<size_t>(row)];
    if (!centered_) zero_point_[o] = weights.zero_point[static_cast<size_t>(row)];
  }
  pack(weights, row_of);
}

void PanelMatrix::pack(const RowWeights& weights, const RowOf& row_of) {
  const int64_t depth = half_ ? 1 : kDepth, bytes = half_ ? 2 : 1;
  weight_.resize(static_cast<size_t>(panels_ * steps_ * columns() * depth * bytes));
  std::byte* to = weight_.data();
  for (int64_t p = 0; p < panels_; ++p)
    for (int64_t step = 0; step < steps_; ++step)
      for (int64_t c = 0; c < columns(); ++c)
        for (int64_t k = 0; k < depth; ++k, to += bytes) {
          const int64_t row = row_of(p, c), i = step * depth + k;
          if (row < 0 || i >= features_) continue;
          const auto at = static_cast<size_t>(row * features_ + i);
          if (half_) {
            std::memcpy(to, &weights.halves[at], sizeof(uint16_t));
          } else {
            const auto o = static_cast<size_t>(p * columns() + c);
            *to = static_cast<std::byte>(weights.codes[at]);
            sum_[o] += weights.codes[at] - (centered_ ? 0 : zero_point_[o]);
          }
        }
}

void PanelMatrix::multiply(int64_t panel, const Operand& operand, int64_t rows, float* y,
                           int64_t y_stride) const noexcept {
  const auto first = static_cast<size_t>(panel * columns());
  Panel p;
  p.weight = weight_.data() + panel * (static_cast<int64_t>(weight_.size()) / panels_);
  p.steps = steps_;
  p.vectors = vectors_;
  p.scale = scale_.data() + first;
  p.sum = sum_.data() + first;
  p.zero_point = centered_ ? nullptr : zero_point_.data() + first;
  p.bias = bias_.data() + first;
  if (half_)
    half_product_.run(p, operand.x, operand.stride, rows, y, y_stride);
  else
    product_.run(p, operand.codes, rows, y, y_stride);
}

Codes PanelMatrix::affine(const Rows& x, int64_t n) const noexcept {
  Codes codes;
  if (half_) return codes;
  float low = 0.0f, high = 0.0f;
  const bool dense = x.first >= n && x.stride == features_;
  if (dense) {
    extent_.run(x[0], n * features_, &low, &high);
  } else {
    for (int64_t r = 0; r < n; ++r) extent_.run(x[r], features_, &low, &high);
  }
  const Affine affine = affine_of(low, high);
  const bool finite = std::isfinite(affine.scale);
  codes.scale = finite ? affine.scale : std::numeric_limits<float>::quiet_NaN();
  codes.zero_point = affine.zero_point;
  return codes;
}

Operand PanelMatrix::operand(const Rows& x, int64_t n, const Codes& affine, std::byte* room) const noexcept {
  if (half_) return floats(x, n, room);
  const int64_t stride = steps_ * kDepth;
  auto* codes = reinterpret_cast<uint8_t*>(room);
  auto* sums = reinterpret_cast<int32_t*>(room + aligned(static_cast<size_t>(n * stride)));
  Operand operand;
  operand.codes = affine;
  operand.codes.x = codes;
  operand.codes.stride = stride;
  const bool finite = std::isfinite(affine.scale);
  const auto params = elementwise::QuantizeParams::of(finite ? affine.scale : 1.0f, affine.zero_point);
  const auto quantize = elementwise::select<elementwise::Quantize>(params.isa(isa_));
  for (int64_t r = 0; r < n; ++r) {
    uint8_t* row = codes + r * stride;
    quantize.run(x[r], row, features_, params);
    for (int64_t i = features_; i < stride; ++i) row[i] = 0;
  }
  if (centered_) return operand;
  operand.codes.sum = sums;
  for (int64_t r = 0; r < n; ++r) {
    sums[r] = 0;
    for (int64_t i = 0; i < features_; ++i) sums[r] += codes[r * stride + i];
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
  const auto rows = static_cast<size_t>(n), features = static_cast<size_t>(features_);
  if (half_) return aligned(rows * features * sizeof(float));
  return aligned(rows * static_cast<size_t>(steps_ * kDepth)) + aligned(rows * sizeof(int32_t));
}

size_t PanelMatrix::packed_bytes() const noexcept {
  return weight_.size() + (scale_.size() + bias_.size()) * sizeof(float) +
         (sum_.size() + zero_point_.size()) * sizeof(int32_t);
}

void PanelMatrix::add_kernels(std::vector<const char*>& names) const {
  if (half_)
    names.push_back(half_product_.name);
  else
    names.insert(names.end(), {product_.name, elementwise::select<elementwise::Quantize>(isa_).name, extent_.name});
}

}  // namespace qfx::recurrent
