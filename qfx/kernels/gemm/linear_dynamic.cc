#include <algorithm>
#include <stdexcept>
#include <vector>

#include "gemm/dynamic.h"
#include "gemm/linear.h"
#include "gemm/select.h"

namespace qfx {
namespace gemm {
namespace {

void check(const DynamicLinear& l) {
  const auto size = [](const auto& span) { return static_cast<int64_t>(span.size()); };
  if (l.outputs < 1 || l.features < 1) throw std::invalid_argument("a layer without an output or a feature");
  if (size(l.weights) != l.outputs * l.features || size(l.scale) != l.outputs ||
      !(l.bias.empty() || size(l.bias) == l.outputs) || !(l.zero_point.empty() || size(l.zero_point) == l.outputs))
    throw std::invalid_argument("constants of a dynamic linear layer of another size than its shape");
  for (const int32_t z : l.zero_point)
    if (z < -128 || z > 127) throw std::invalid_argument("a weight's zero point that is not an int8");
}

Affine affine_of_all(const float* x, int64_t n, Isa isa) noexcept {
  float low = 0.0f, high = 0.0f;
  elementwise::select<elementwise::Extent>(isa).run(x, n, &low, &high);
  return affine_of(low, high);
}

// Where rows have one each, there is none.
Affine affine_of_whole(bool per_row, const float* x, int64_t n, Isa isa) noexcept {
  return per_row ? Affine{1.0f, 0} : affine_of_all(x, n, isa);
}

class LoopsWork final : public Work {
 public:
  LoopsWork(const DynamicLinear& layer, int64_t rows) : l_(layer), rows_(rows) {}

  void run(const void* const* in, void* const* out, std::byte* scratch, int tid, int threads) const noexcept override {
    const auto* x = static_cast<const float*>(in[0]);
    const auto* residual = l_.residual ? static_cast<const float*>(in[1]) : nullptr;
    auto* y = static_cast<float*>(out[0]);
    auto* codes = reinterpret_cast<uint8_t*>(scratch);
    const Affine whole = affine_of_whole(l_.per_row, x, rows_ * l_.features, Isa::scalar);
    const Range outputs = split(l_.outputs, tid, threads);
    for (int64_t r = 0; r < rows_; ++r) {
      const float* row = x + r * l_.features;
      const RowQuantizer quantizer(l_.per_row ? affine_of_all(row, l_.features, Isa::scalar) : whole, Isa::scalar);
      quantizer.run(row, codes, l_.features);
      for (int64_t o = outputs.begin; o < outputs.end; ++o) {
        float value = product(codes, o, quantizer);
        value += l_.bias.empty() ? kNoBias : l_.bias[static_cast<size_t>(o)];
        if (residual != nullptr) value += residual[r * l_.outputs + o];
        y[r * l_.outputs + o] = std::min(std::max(value, l_.lo), l_.hi);
      }
    }
  }

  size_t scratch_bytes() const noexcept override { return static_cast<size_t>(l_.features); }
  int64_t cost() const noexcept override { return rows_ * l_.features * l_.outputs; }
  int64_t products() const noexcept override { return cost(); }
  std::string details() const override { return "the reference"; }

 private:
  float product(const uint8_t* codes, int64_t o, const RowQuantizer& x) const noexcept {
    const auto at = static_cast<size_t>(o);
    const int32_t zero_point = l_.zero_point.empty() ? 0 : l_.zero_point[at];
    int64_t sum = 0;
    for (int64_t i = 0; i < l_.features; ++i) {
      const int64_t code = codes[i] - x.zero_point();
      sum += code * (l_.weights[static_cast<size_t>(o * l_.features + i)] - zero_point);
    }
    return static_cast<float>(sum) * (x.scale() * l_.scale[at]);
  }

  const DynamicLinear& l_;
  int64_t rows_;
};

class Loops final : public PackedLinear {
 public:
  explicit Loops(const DynamicLinear& layer)
      : layer_(layer),
        weights_(layer.weights.begin(), layer.weights.end()),
        scale_(layer.scale.begin(), layer.scale.end()),
        zero_point_(layer.zero_point.begin(), layer.zero_point.end()),
        bias_(layer.bias.begin(), layer.bias.end()) {
    check(layer);
    layer_.weights = weights_;
    layer_.scale = scale_;
    layer_.zero_point = zero_point_;
    layer_.bias = bias_;
  }

  std::unique_ptr<Work> plan(int64_t rows) const override { return std::make_unique<LoopsWork>(layer_, rows); }
  size_t packed_bytes() const noexcept override {
    return weights_.size() + (scale_.size() + bias_.size()) * sizeof(float) + zero_point_.size() * sizeof(int32_t);
  }

 private:
  DynamicLinear layer_;
  std::vector<int8_t> weights_;
  std::vector<float> scale_;
  std::vector<int32_t> zero_point_;
  std::vector<float> bias_;
};

// Operand 0 is x, or (`quantized`) rows of it as QuantizedRows makes them.
class DynamicWork final : public Work {
 public:
  // Of the layer all but its constants, which are packed.
  DynamicWork(const DynamicWeights& weights, const DynamicLinear& layer, int64_t rows, Isa isa, bool quantized)
      : w_(weights), l_(layer), rows_(rows), isa_(isa), quantized_(quantized) {
    const int64_t tile = weights.weights().kernel().rows;
    block_ = std::clamp<int64_t>(kDynamicBytes / layout().stride / tile * tile, tile, std::max(tile, rows));
  }

  void run(const void* const* in, void* const* out, std::byte* scratch, int tid, int threads) const noexcept override {
    const auto* residual = l_.residual ? static_cast<const float*>(in[1]) : nullptr;
    const Share share = share_of(rows_, w_.weights(), tid, threads);
    if (share.empty()) return;
    const Source source = source_of(in[0], scratch);
    DynamicOutput to;
    to.y_row = to.addend_row = l_.outputs;
    to.lo = l_.lo;
    to.hi = l_.hi;
    for (int64_t r = share.rows.begin; r < share.rows.end; r += block_) {
      const int64_t n = std::min(block_, share.rows.end - r);
      to.y = static_cast<float*>(out[0]) + r * l_.outputs;
      to.addend = residual == nullptr ? nullptr : residual + r * l_.outputs;
      w_.multiply(share.panels, block_of(source, r, n), n, to);
    }
  }

  size_t scratch_bytes() const noexcept override { return quantized_ ? 0 : layout().room_bytes(block_); }
  int64_t cost() const noexcept override { return rows_ * w_.features() * l_.outputs; }
  int64_t products() const noexcept override { return cost(); }
  std::vector<const char*> kernels() const override {
    if (quantized_) return names_of_kernels(w_.weights().panels());
    std::vector<const char*> names;
    w_.add_kernels(names);
    names.push_back(elementwise::select<elementwise::Extent>(isa_).name);
    return names;
  }

 private:
  // Where rows come from: x is null where they are quantized.
  struct Source {
    const float* x;
    Affine whole;
    DynamicRows codes;  // of all rows, or room for a block
  };

  const RowLayout& layout() const noexcept { return w_.layout(); }

  Source source_of(const void* operand, std::byte* scratch) const noexcept {
    if (quantized_) {
      auto* room = static_cast<std::byte*>(const_cast<void*>(operand));
      return {nullptr, {}, layout().rows_in(room, rows_)};
    }
    const auto* x = static_cast<const float*>(operand);
    Source source{x, affine_of_whole(l_.per_row, x, rows_ * w_.features(), isa_), layout().rows_in(scratch, block_)};
    source.codes.uniform = !l_.per_row;
    return source;
  }

  // Rows [first, first + n), quantized one after the other, so that each is read from memory once.
  DynamicRows block_of(const Source& source, int64_t first, int64_t n) const noexcept {
    if (quantized_) return source.codes.from(first);
    const float* x = source.x + first * w_.features();
    for (int64_t i = 0; i < n; ++i, x += w_.features()) {
      const Affine affine = l_.per_row ? affine_of_all(x, w_.features(), isa_) : source.whole;
      layout().quantize(x, w_.quantizer(affine), source.codes, i);
    }
    return source.codes;
  }

  const DynamicWeights& w_;
  const DynamicLinear& l_;
  int64_t rows_, block_;
  Isa isa_;
  bool quantized_;
};

DynamicColumns columns_of(const DynamicLinear& l) {
  DynamicColumns c;
  c.weights = l.weights;
  c.features = l.features;
  for (int64_t o = 0; o < l.outputs; ++o) c.row.push_back(o);
  c.scale.assign(l.scale.begin(), l.scale.end());
  c.zero_point.assign(l.zero_point.begin(), l.zero_point.end());
  c.bias.assign(l.bias.begin(), l.bias.end());
  c.bias.resize(static_cast<size_t>(l.outputs), kNoBias);
  c.segment = l.outputs;
  return c;
}

class Packed final : public PackedLinear {
 public:
  Packed(const DynamicLinear& layer, const DynamicColumns& columns, const TileKernel& kernel, Isa isa,
         std::span<const TileKernel> kernels)
      : layer_(layer), isa_(isa), weights_(columns, kernel, isa, kernels) {
    layer_.weights = {};
    layer_.scale = layer_.bias = {};
    layer_.zero_point = {};
  }

  std::unique_ptr<Work> plan(int64_t rows) const override {
    return std::make_unique<DynamicWork>(weights_, layer_, rows, isa_, false);
  }
  std::optional<QuantizedRows> quantized_rows() const override {
    if (!layer_.per_row) return std::nullopt;
    return QuantizedRows{weights_.layout(), isa_};
  }
  std::unique_ptr<Work> plan_quantized(int64_t rows) const override {
    return std::make_unique<DynamicWork>(weights_, layer_, rows, isa_, true);
  }
  size_t packed_bytes() const noexcept override { return weights_.bytes(); }

 private:
  DynamicLinear layer_;
  Isa isa_;
  DynamicWeights weights_;
};

}  // namespace

std::unique_ptr<PackedLinear> pack_linear_dynamic_gemm(const TileKernel& kernel, const DynamicLinear& layer, Isa isa,
                                                       std::span<const TileKernel> kernels) {
  check(layer);
  return std::make_unique<Packed>(layer, columns_of(layer), kernel, isa, kernels);
}

std::unique_ptr<PackedLinear> pack_linear_dynamic_scalar(const DynamicLinear& layer) {
  return std::make_unique<Loops>(layer);
}

}  // namespace gemm

std::unique_ptr<PackedLinear> pack_linear_dynamic(const DynamicLinear& layer, Isa isa) {
  gemm::check(layer);
  if (layer.features > gemm::kDynamicFeatures) return gemm::pack_linear_dynamic_scalar(layer);
  const gemm::DynamicColumns columns = gemm::columns_of(layer);
  const gemm::TileKernel& kernel = gemm::kernel_for(columns, gemm::SingleRows::often, isa);
  return std::make_unique<gemm::Packed>(layer, columns, kernel, isa, gemm::kernels());
}

}  // namespace qfx
