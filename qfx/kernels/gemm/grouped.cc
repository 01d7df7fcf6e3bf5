#include "gemm/grouped.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "core/nibbles.h"
#include "core/split.h"

namespace qfx::gemm {
namespace {

int64_t panel_of(int64_t outputs) {
  return std::min(kHalfVectors, ceil_div(outputs, kHalfLanes));
}

}  // namespace

void require_fitting(const GroupedLinear& layer) {
  if (layer.bits != 8 && layer.bits != 4) throw std::invalid_argument("codes that have neither 8 nor 4 bits");
  if (layer.outputs < 1 || layer.features < 1) throw std::invalid_argument("weights without a row or a feature");
  if (layer.group < 1 || layer.features % layer.group != 0) {
    throw std::invalid_argument("groups that do not divide the features");
  }
  const auto size = [](const auto& span) { return static_cast<int64_t>(span.size()); };
  const auto bytes = [&](int64_t codes) { return ceil_div(codes * layer.bits, 8); };
  const int64_t weights = layer.outputs * layer.features, groups = weights / layer.group;
  if (size(layer.weights) != bytes(weights)) throw std::invalid_argument("weights of another size than the layer");
  if (!layer.bias.empty() && size(layer.bias) != layer.outputs) {
    throw std::invalid_argument("a bias of another size than the layer");
  }
  if (size(layer.scale) + size(layer.half_scale) != groups || (!layer.scale.empty() && !layer.half_scale.empty())) {
    throw std::invalid_argument("scales of another number than the groups");
  }
  if (!layer.zero_point.empty() && size(layer.zero_point) != bytes(groups)) {
    throw std::invalid_argument("zero points of another number than the groups");
  }
}

int code_at(std::span<const std::byte> codes, int bits, int64_t i) noexcept {
  return bits == 8 ? static_cast<int8_t>(codes[static_cast<size_t>(i)]) : nibble_at(codes.data(), i);
}

GroupedWeights::GroupedWeights(const GroupedLinear& layer, Isa isa)
    : features_(layer.features),
      group_(layer.group),
      bits_(layer.bits),
      vectors_(static_cast<int>(panel_of(layer.outputs))),
      half_scale_(!layer.half_scale.empty()),
      kernel_(in_order_kernel(layer.bits == 8 ? Stored::s8 : Stored::s4, isa)) {
  bias_.resize(static_cast<size_t>(ceil_div(layer.outputs, panel_columns()) * panel_columns()));
  std::ranges::copy(layer.bias, bias_.begin());
  const size_t panels = bias_.size() / static_cast<size_t>(panel_columns());
  weights_ = {panels * static_cast<size_t>(panel_bytes()), [&](std::byte* codes) { pack_codes(layer, codes); }};
  pack_groups(layer);
}

int64_t GroupedWeights::panel_bytes() const noexcept {
  return panel_columns() * (bits_ == 8 ? features_ : ceil_div(features_, 2));
}

int64_t GroupedWeights::place(int64_t column, int64_t each) const noexcept {
  return column / panel_columns() * panel_columns() * each + column % panel_columns();
}

void GroupedWeights::pack_codes(const GroupedLinear& layer, std::byte* codes) const {
  const int64_t panel = panel_columns();
  for (int64_t o = 0; o < layer.outputs; ++o) {
    std::byte* to = codes + place(o, panel_bytes() / panel);
    for (int64_t k = 0; k < features_; ++k) {
      const int code = code_at(layer.weights, bits_, o * features_ + k);
      if (bits_ == 8) {
        to[k * panel] = static_cast<std::byte>(code);
      } else {
        to[k / 2 * panel] |= static_cast<std::byte>((code + kNibbleOrigin) << (k % 2 * 4));
      }
    }
  }
}

void GroupedWeights::pack_groups(const GroupedLinear& layer) {
  const int64_t panel = panel_columns(), groups = features_ / group_;
  const size_t count = bias_.size() * static_cast<size_t>(groups), each = half_scale_ ? 2 : 4;
  scales_.resize(count * each);
  zero_points_.resize(layer.zero_point.empty() ? 0 : count);
  const auto* scale = half_scale_ ? reinterpret_cast<const std::byte*>(layer.half_scale.data())
                                  : reinterpret_cast<const std::byte*>(layer.scale.data());
  for (int64_t o = 0; o < layer.outputs; ++o)
    for (int64_t g = 0; g < groups; ++g) {
      const auto from = static_cast<size_t>(o * groups + g), to = static_cast<size_t>(place(o, groups) + g * panel);
      std::memcpy(scales_.data() + to * each, scale + from * each, each);
      if (layer.zero_point.empty()) continue;
      const int zero = code_at(layer.zero_point, bits_, static_cast<int64_t>(from));
      zero_points_[to] = static_cast<int8_t>(zero + (bits_ == 8 ? 0 : kNibbleOrigin));
    }
}

void GroupedWeights::multiply(int64_t panel, const float* x, int64_t x_row, int64_t rows, float* y,
                              int64_t y_row) const noexcept {
  const int64_t columns = panel_columns(), groups = panel * columns * (features_ / group_);
  const InOrderPanel p{.weight = weights_.data() + panel * panel_bytes(),
                       .steps = features_,
                       .vectors = vectors_,
                       .bias = bias_.data() + panel * columns,
                       .group = group_,
                       .scale = scales_.data() + groups * (half_scale_ ? 2 : 4),
                       .half_scale = half_scale_,
                       .zero_point = zero_points_.empty() ? nullptr : zero_points_.data() + groups,
                       .origin = bits_ == 8 ? 0 : kNibbleOrigin};
  kernel_.run(p, x, x_row, rows, y, y_row);
}

}  // namespace qfx::gemm
