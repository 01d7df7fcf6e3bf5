#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <vector>

#include "core/half.h"
#include "gemm/dynamic.h"
#include "gemm/grouped.h"
#include "gemm/linear.h"
#include "gemm/select.h"

namespace qfx {
namespace gemm {
namespace {

constexpr int32_t kOrigin = 128;  // codes are stored that much greater than they are

void check(const DynamicGroupedLinear& l) {
  require_fitting(l.weights);
  const int64_t group = l.weights.group;
  if (l.x_group < 1 || (group % l.x_group != 0 && group != l.weights.features)) {
    throw std::invalid_argument("groups of weights that are not whole groups of the input");
  }
  if (std::min(l.x_group, l.weights.features) > kDynamicFeatures) {
    throw std::invalid_argument("groups of the input too large for their sums");
  }
}

// By what a group is quantized.
Affine affine_of_group(const float* x, int64_t n, Isa isa) noexcept {
  float low = 0.0f, high = 0.0f;
  elementwise::select<elementwise::Extent>(isa).run(x, n, &low, &high);
  const float most = std::isnan(low) ? low : std::max(high, -low), scale = most / 127.0f;
  return {scale == 0.0f ? 1.0f : scale, kOrigin};
}

float scale_of(const GroupedLinear& l, int64_t i) {
  const auto at = static_cast<size_t>(i);
  return l.half_scale.empty() ? l.scale[at] : float_of_half(l.half_scale[at]);
}

// The weights of some features of all outputs, as bytes.
std::vector<int8_t> bytes_of(const GroupedLinear& l, Range features) {
  std::vector<int8_t> codes;
  codes.reserve(static_cast<size_t>(l.outputs * (features.end - features.begin)));
  for (int64_t o = 0; o < l.outputs; ++o)
    for (int64_t i = features.begin; i < features.end; ++i) {
      codes.push_back(static_cast<int8_t>(code_at(l.weights, l.bits, o * l.features + i)));
    }
  return codes;
}

// These as columns, of features that lie in one group of weights.
DynamicColumns columns_of(const GroupedLinear& l, Range features, std::span<const int8_t> codes) {
  const int64_t groups = l.features / l.group, group = features.begin / l.group;
  DynamicColumns c;
  c.weights = codes;
  c.features = features.end - features.begin;
  for (int64_t o = 0; o < l.outputs; ++o) {
    c.row.push_back(o);
    c.scale.push_back(scale_of(l, o * groups + group));
    if (!l.zero_point.empty()) c.zero_point.push_back(code_at(l.zero_point, l.bits, o * groups + group));
  }
  c.bias.assign(static_cast<size_t>(l.outputs), kNoBias);
  c.segment = l.outputs;
  return c;
}

// Weights one group of the input after the other. All have the same panels.
using Groups = std::vector<DynamicWeights>;

struct Ending {
  std::vector<float> bias;  // or empty
  float lo, hi;

  // y + bias + addend within [lo, hi]; addend may be null.
  void run(const float* addend, float* y, Range columns) const noexcept {
    for (int64_t o = columns.begin; o < columns.end; ++o) {
      float value = y[o];
      if (!bias.empty()) value += bias[static_cast<size_t>(o)];
      if (addend != nullptr) value += addend[o];
      y[o] = std::min(std::max(value, lo), hi);
    }
  }
};

class GroupsWork final : public Work {
 public:
  GroupsWork(const Groups& groups, const Ending& ending, int64_t outputs, int64_t rows, bool residual, Isa isa)
      : groups_(groups), ending_(ending), outputs_(outputs), rows_(rows), residual_(residual), isa_(isa) {
    for (const DynamicWeights& group : groups) features_ += group.features();
    const int64_t tile = first().weights().kernel().rows, bytes = layout().stride * count();
    block_ = std::clamp<int64_t>(kDynamicBytes / bytes / tile * tile, tile, std::max(tile, rows));
  }

  void run(const void* const* in, void* const* out, std::byte* scratch, int tid, int threads) const noexcept override {
    const auto* x = static_cast<const float*>(in[0]);
    const auto* residual = residual_ ? static_cast<const float*>(in[1]) : nullptr;
    auto* y = static_cast<float*>(out[0]);
    const Share share = share_of(rows_, first().weights(), tid, threads);
    if (share.empty()) return;
    const auto& panels = first().weights().panels();
    const Panel& last = panels[static_cast<size_t>(share.panels.end - 1)];
    const Range columns{panels[static_cast<size_t>(share.panels.begin)].first, last.first + last.columns};
    for (int64_t r = share.rows.begin; r < share.rows.end; r += block_) {
      const int64_t n = std::min(block_, share.rows.end - r);
      quantize(x + r * features_, n, scratch);
      multiply(share.panels, n, scratch, y + r * outputs_);
      for (int64_t i = r; i < r + n; ++i) {
        ending_.run(residual == nullptr ? nullptr : residual + i * outputs_, y + i * outputs_, columns);
      }
    }
  }

  size_t scratch_bytes() const noexcept override { return room() * groups_.size(); }
  int64_t cost() const noexcept override { return rows_ * features_ * outputs_; }
  int64_t products() const noexcept override { return cost(); }
  std::vector<const char*> kernels() const override {
    std::vector<const char*> names;
    first().add_kernels(names);
    names.push_back(elementwise::select<elementwise::Extent>(isa_).name);
    return names;
  }

 private:
  const DynamicWeights& first() const noexcept { return groups_.front(); }
  const RowLayout& layout() const noexcept { return first().layout(); }
  int64_t count() const noexcept { return static_cast<int64_t>(groups_.size()); }
  size_t room() const noexcept { return layout().room_bytes(block_); }

  DynamicRows codes_of(size_t group, std::byte* scratch) const noexcept {
    return groups_[group].layout().rows_in(scratch + group * room(), block_);
  }

  void quantize(const float* x, int64_t rows, std::byte* scratch) const noexcept {
    for (size_t g = 0; g < groups_.size(); ++g) {
      const DynamicWeights& group = groups_[g];
      const DynamicRows to = codes_of(g, scratch);
      for (int64_t i = 0; i < rows; ++i) {
        const float* from = x + i * features_;
        group.layout().quantize(from, group.quantizer(affine_of_group(from, group.features(), isa_)), to, i);
      }
      x += group.features();
    }
  }

  // Sums stay in the cache from group to group: a panel at a time, but of one row all, which are read in streams.
  void multiply(Range panels, int64_t rows, std::byte* scratch, float* y) const noexcept {
    const int64_t at_once = rows == 1 ? panels.end - panels.begin : 1;
    for (int64_t p = panels.begin; p < panels.end; p += at_once) {
      DynamicOutput to;
      to.y = y;
      to.y_row = to.addend_row = outputs_;
      for (size_t g = 0; g < groups_.size(); ++g) {
        groups_[g].multiply({p, p + at_once}, codes_of(g, scratch), rows, to);
        to.addend = y;
      }
    }
  }

  const Groups& groups_;
  const Ending& ending_;
  int64_t outputs_, features_ = 0, rows_, block_;
  bool residual_;
  Isa isa_;
};

class PackedGroups final : public PackedLinear {
 public:
  PackedGroups(const TileKernel& kernel, const DynamicGroupedLinear& layer, Isa isa,
               std::span<const TileKernel> kernels)
      : outputs_(layer.weights.outputs),
        residual_(layer.residual),
        isa_(isa),
        ending_{{layer.weights.bias.begin(), layer.weights.bias.end()}, layer.lo, layer.hi} {
    const int64_t features = layer.weights.features;
    groups_.reserve(static_cast<size_t>(ceil_div(features, layer.x_group)));
    for (int64_t i = 0; i < features; i += layer.x_group) {
      const Range range{i, std::min(features, i + layer.x_group)};
      const std::vector<int8_t> codes = bytes_of(layer.weights, range);
      groups_.emplace_back(columns_of(layer.weights, range, codes), kernel, isa, kernels);
    }
  }

  std::unique_ptr<Work> plan(int64_t rows) const override {
    return std::make_unique<GroupsWork>(groups_, ending_, outputs_, rows, residual_, isa_);
  }
  size_t packed_bytes() const noexcept override {
    size_t bytes = ending_.bias.size() * sizeof(float);
    for (const DynamicWeights& group : groups_) bytes += group.bytes();
    return bytes;
  }

 private:
  int64_t outputs_;
  bool residual_;
  Isa isa_;
  Ending ending_;
  Groups groups_;
};

}  // namespace

std::unique_ptr<PackedLinear> pack_linear_dynamic_grouped_gemm(const TileKernel& kernel,
                                                               const DynamicGroupedLinear& layer, Isa isa,
                                                               std::span<const TileKernel> kernels) {
  check(layer);
  return std::make_unique<PackedGroups>(kernel, layer, isa, kernels);
}

}  // namespace gemm

std::unique_ptr<PackedLinear> pack_linear_dynamic_grouped(const DynamicGroupedLinear& layer, Isa isa) {
  gemm::check(layer);
  gemm::DynamicColumns columns;
  columns.features = std::min(layer.x_group, layer.weights.features);
  columns.segment = layer.weights.outputs;
  const gemm::TileKernel& kernel = gemm::kernel_for(columns, gemm::SingleRows::often, isa);
  return std::make_unique<gemm::PackedGroups>(kernel, layer, isa, gemm::kernels());
}

}  // namespace qfx
