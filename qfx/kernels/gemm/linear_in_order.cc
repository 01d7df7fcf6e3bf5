#include <algorithm>
#include <numeric>
#include <stdexcept>
#include <utility>
#include <vector>

#include "core/split.h"
#include "gemm/grouped.h"
#include "gemm/half.h"
#include "gemm/linear.h"

namespace qfx {
namespace gemm {
namespace {

constexpr int64_t kBlockRows = 48;  // rows that share one pass over a panel

void check(int64_t outputs, int64_t features, int64_t weights, size_t bias) {
  if (outputs < 1 || features < 1) throw std::invalid_argument("weights without a row or a feature");
  if (weights != outputs * features) throw std::invalid_argument("weights of another size than the layer");
  if (bias != 0 && static_cast<int64_t>(bias) != outputs)
    throw std::invalid_argument("a bias of another size than the layer");
}

HalfWeights packed(int64_t outputs, int64_t features, std::span<const uint16_t> weights, std::span<const float> bias,
                   Isa isa, Stored stored) {
  check(outputs, features, static_cast<int64_t>(weights.size()), bias.size());
  std::vector<int64_t> rows(static_cast<size_t>(outputs));
  std::iota(rows.begin(), rows.end(), 0);
  std::vector<float> biases(bias.begin(), bias.end());
  biases.resize(rows.size());
  const int64_t panel = std::min(kHalfVectors, ceil_div(outputs, kHalfLanes)) * kHalfLanes;
  return {weights, features, rows, biases, panel, isa, stored};
}

template <class Weights>
class InOrderWork final : public Work {
 public:
  InOrderWork(const Weights& weights, int64_t outputs, int64_t features, int64_t rows)
      : w_(weights), outputs_(outputs), features_(features), rows_(rows) {}

  // Parts are panels of outputs.
  void run(const void* const* in, void* const* out, std::byte*, int tid, int threads) const noexcept override {
    const auto* x = static_cast<const float*>(in[0]);
    auto* y = static_cast<float*>(out[0]);
    const int64_t columns = w_.panel_columns();
    alignas(64) float room[kBlockRows * kHalfVectors * kHalfLanes];
    const Range own = split(ceil_div(outputs_, columns), tid, threads);
    for (int64_t p = own.begin; p < own.end; ++p)
      for (int64_t r = 0; r < rows_; r += kBlockRows) {
        const int64_t rows = std::min(kBlockRows, rows_ - r), n = std::min(columns, outputs_ - p * columns);
        w_.multiply(p, x + r * features_, features_, rows, room, columns);
        for (int64_t i = 0; i < rows; ++i) std::copy_n(room + i * columns, n, y + (r + i) * outputs_ + p * columns);
      }
  }

  int64_t cost() const noexcept override { return rows_ * features_ * outputs_; }
  std::vector<const char*> kernels() const override { return {w_.kernel_name()}; }

 private:
  const Weights& w_;
  int64_t outputs_, features_, rows_;
};

template <class Weights>
class InOrderLinear final : public PackedLinear {
 public:
  InOrderLinear(int64_t outputs, int64_t features, Weights weights)
      : outputs_(outputs), features_(features), weights_(std::move(weights)) {}

  std::unique_ptr<Work> plan(int64_t rows) const override {
    return std::make_unique<InOrderWork<Weights>>(weights_, outputs_, features_, rows);
  }
  size_t packed_bytes() const noexcept override { return weights_.bytes(); }

 private:
  int64_t outputs_, features_;
  Weights weights_;
};

}  // namespace
}  // namespace gemm

std::unique_ptr<PackedLinear> pack_linear_half(int64_t outputs, int64_t features, std::span<const uint16_t> weights,
                                               std::span<const float> bias, Isa isa, bool brain) {
  const gemm::Stored stored = brain ? gemm::Stored::bf16 : gemm::Stored::f16;
  return std::make_unique<gemm::InOrderLinear<gemm::HalfWeights>>(
      outputs, features, gemm::packed(outputs, features, weights, bias, isa, stored));
}

std::unique_ptr<PackedLinear> pack_linear_grouped(const GroupedLinear& layer, Isa isa) {
  gemm::require_fitting(layer);
  return std::make_unique<gemm::InOrderLinear<gemm::GroupedWeights>>(layer.outputs, layer.features,
                                                                     gemm::GroupedWeights(layer, isa));
}

}  // namespace qfx
