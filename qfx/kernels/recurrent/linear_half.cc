#include <algorithm>
#include <stdexcept>

#include "core/split.h"
#include "recurrent/panels.h"
#include "recurrent/recurrent.h"

namespace qfx {
namespace {

using namespace recurrent;

constexpr int64_t kBlockRows = 32;  // rows that share one pass over a panel

class Packed final : public PackedLinear {
 public:
  Packed(int64_t outputs, int64_t features, std::span<const uint16_t> weights, std::span<const float> bias, Isa isa)
      : outputs_(outputs), features_(features), matrix_(made(outputs, features, weights, bias, isa)) {}

  std::unique_ptr<Work> plan(int64_t rows) const override;
  size_t packed_bytes() const noexcept override { return matrix_.packed_bytes(); }

  int64_t outputs_, features_;
  PanelMatrix matrix_;

 private:
  static PanelMatrix made(int64_t outputs, int64_t features, std::span<const uint16_t> weights,
                          std::span<const float> bias, Isa isa) {
    if (!bias.empty() && static_cast<int64_t>(bias.size()) != outputs)
      throw std::invalid_argument("a bias of another size than the layer");
    const int64_t width = std::min(kVectors, (outputs + kLanes - 1) / kLanes) * kLanes;
    const auto row_of = [=](int64_t panel, int64_t column) {
      const int64_t row = panel * width + column;
      return row < outputs ? row : -1;
    };
    const auto bias_of = [=](int64_t row) { return bias.empty() ? 0.0f : bias[static_cast<size_t>(row)]; };
    RowWeights rows;
    rows.halves = weights;
    return PanelMatrix(rows, outputs, features, (outputs + width - 1) / std::max(width, int64_t{1}),
                       static_cast<int>(width / kLanes), row_of, {bias_of}, isa);
  }
};

class LinearHalfWork final : public Work {
 public:
  LinearHalfWork(const Packed& packed, int64_t rows) : p_(packed), rows_(rows) {}

  // Parts are panels of outputs.
  void run(const void* const* in, void* const* out, std::byte*, int tid, int threads) const noexcept override {
    const auto* x = static_cast<const float*>(in[0]);
    auto* y = static_cast<float*>(out[0]);
    const int64_t columns = p_.matrix_.columns();
    alignas(64) float room[kBlockRows * kVectors * kLanes];
    const Range own = split(p_.matrix_.panels(), tid, threads);
    for (int64_t p = own.begin; p < own.end; ++p)
      for (int64_t r = 0; r < rows_; r += kBlockRows) {
        const int64_t rows = std::min(kBlockRows, rows_ - r), n = std::min(columns, p_.outputs_ - p * columns);
        Operand operand;
        operand.x = x + r * p_.features_;
        operand.stride = p_.features_;
        p_.matrix_.multiply(p, operand, rows, room, columns);
        for (int64_t i = 0; i < rows; ++i) std::copy_n(room + i * columns, n, y + (r + i) * p_.outputs_ + p * columns);
      }
  }

  int64_t cost() const noexcept override { return rows_ * p_.features_ * p_.outputs_; }
  std::vector<const char*> kernels() const override {
    std::vector<const char*> names;
    p_.matrix_.add_kernels(names);
    return names;
  }

 private:
  const Packed& p_;
  int64_t rows_;
};

std::unique_ptr<Work> Packed::plan(int64_t rows) const {
  return std::make_unique<LinearHalfWork>(*this, rows);
}

}  // namespace

std::unique_ptr<PackedLinear> pack_linear_half(int64_t outputs, int64_t features, std::span<const uint16_t> weights,
                                               std::span<const float> bias, Isa isa) {
  return std::make_unique<Packed>(outputs, features, weights, bias, isa);
}

}  // namespace qfx
