#include "gemm/weights.h"

#include <cstring>
#include <utility>

#include "gemm/pairing.h"

namespace qfx::gemm {
namespace {

// visit(weight less zero point) for every weight of a column.
template <class Visit>
void for_each_weight(const Matrix& matrix, const Column& column, Visit&& visit) {
  const int64_t count = column.weights == nullptr ? 0 : matrix.runs * matrix.length;
  for (int64_t i = 0; i < count; ++i) visit(column.weights[i] - column.zero_point);
}

int64_t parts_of(const Matrix& matrix) {
  int64_t parts = 1;
  for (const Column& column : matrix.columns) {
    if (column.zero_point == 0) continue;
    for_each_weight(matrix, column,
                    [&](int32_t w) { parts = std::max<int64_t>(parts, w > 0 ? ceil_div(w, 127) : ceil_div(-w, 128)); });
  }
  return parts;
}

// Term `part` of `w` as a sum of s8 values.
int32_t weight_part(int32_t w, int64_t part) {
  for (int64_t i = 0; i < part; ++i) w -= std::clamp(w, -128, 127);
  return std::clamp(w, -128, 127);
}

}  // namespace

Weights::Weights(const TileKernel& kernel, const Matrix& matrix, std::span<const TileKernel> kernels)
    : kernel_(&kernel),
      runs_(matrix.runs),
      steps_(kernel.steps(matrix.run_length)),
      parts_(kernel.bytes == 1 ? parts_of(matrix) : 1) {
  const int64_t bytes = lay_out_panels(matrix, kernels);
  if (kernel.packing == Packing::paired) {  // how long it gets, and where it points, only packing knows
    pack_pairs(matrix, bytes);
    return;
  }
  weights_ = {static_cast<size_t>(bytes), [&](std::byte* weights) { pack(matrix, weights); }};
  corrections_ = {static_cast<size_t>(vectors_), [&](int32_t* corrections) { correct(matrix, corrections); }};
}

int64_t Weights::lay_out_panels(const Matrix& matrix, std::span<const TileKernel> kernels) {
  const auto count = static_cast<int64_t>(matrix.columns.size());
  int64_t weights = 0;
  for (int64_t first = 0; first < count; first += matrix.segment) {
    for (int64_t done = 0; done < matrix.segment; done += kernel_->columns) {
      const int64_t columns = std::min<int64_t>(kernel_->columns, matrix.segment - done);
      const TileKernel& kernel = kernel_for(*kernel_, kernels, columns);
      const int64_t bytes = parts_ * runs_ * steps_ * kernel.step_bytes();
      panels_.push_back({&kernel, first + done, columns, weights, bytes, vectors_, 0});
      weights += bytes;
      vectors_ += kernel.columns;
    }
  }
  return weights;
}

void Weights::pack(const Matrix& matrix, std::byte* weights) const {
  for (const Panel& panel : panels_) {
    for (int64_t i = 0; i < panel.columns; ++i) pack_column(panel, matrix, i, weights);
  }
}

void Weights::pack_column(const Panel& panel, const Matrix& matrix, int64_t at, std::byte* weights) const {
  const TileKernel& kernel = *panel.kernel;
  const Column& column = matrix.columns[static_cast<size_t>(panel.first + at)];
  if (column.weights == nullptr) return;
  const int64_t depth = kernel.depth, length = matrix.length, step_bytes = kernel.step_bytes();
  const bool plain = kernel.bytes == 1 && depth == 4 && parts_ == 1 && column.zero_point == 0;
  std::byte* run = weights + panel.weights + at * depth * kernel.bytes;
  for (int64_t part = 0; part < parts_; ++part) {
    const int8_t* weight = column.weights;
    for (int64_t r = 0; r < runs_; ++r, run += steps_ * step_bytes, weight += length) {
      std::byte* step = run + column.first / depth * step_bytes;
      for (int64_t e = -(column.first % depth); e < length; e += depth, step += step_bytes) {
        if (plain && e >= 0 && e + depth <= length) {
          std::memcpy(step, weight + e, 4);
          continue;
        }
        for (int64_t i = std::max<int64_t>(0, -e); i < std::min(depth, length - e); ++i) {
          const int32_t w = weight[e + i] - column.zero_point;
          if (kernel.bytes == 1) {
            step[i] = static_cast<std::byte>(weight_part(w, part));
          } else {
            const auto wide = static_cast<int16_t>(w);
            std::memcpy(step + 2 * i, &wide, sizeof wide);
          }
        }
      }
    }
  }
}

// The kernel's sums are over x - shift.
void Weights::correct(const Matrix& matrix, int32_t* corrections) const {
  if (kernel_->shift == 0) return;
  for (const Panel& panel : panels_) {
    for (int64_t i = 0; i < panel.columns; ++i) {
      uint32_t sum = 0;
      for_each_weight(matrix, matrix.columns[static_cast<size_t>(panel.first + i)],
                      [&](int32_t w) { sum += static_cast<uint32_t>(w); });
      corrections[panel.vectors + i] = static_cast<int32_t>(static_cast<uint32_t>(kernel_->shift) * sum);
    }
  }
}

void Weights::pack_pairs(const Matrix& matrix, int64_t bytes) {
  AlignedVector<std::byte> plain(static_cast<size_t>(bytes));
  AlignedVector<int32_t> corrections(static_cast<size_t>(vectors_));
  pack(matrix, plain.data());
  correct(matrix, corrections.data());
  std::vector<int32_t> order;
  std::vector<std::byte> weights;
  weights.reserve(2 * plain.size());
  for (Panel& panel : panels_) {
    const int64_t run_bytes = panel.bytes / (parts_ * runs_);
    const auto* packed = reinterpret_cast<const int8_t*>(plain.data() + panel.weights);
    panel.weights = static_cast<int64_t>(weights.size());
    panel.order = static_cast<int64_t>(order.size());
    for (int64_t run = 0; run < panel.bytes; run += run_bytes) {
      pair_run(packed + run, steps_, panel.kernel->columns, order, weights, corrections.data() + panel.vectors);
    }
    panel.bytes = static_cast<int64_t>(weights.size()) - panel.weights;
  }
  order_.assign(order.begin(), order.end());
  weights_ = PackedArray(AlignedVector<std::byte>(weights.begin(), weights.end()));
  corrections_ = PackedArray(std::move(corrections));
}

AlignedVector<int32_t> Weights::starts(std::span<const int32_t> bias) const {
  AlignedVector<int32_t> all(corrections_.begin(), corrections_.end());
  if (bias.empty()) return all;
  const AlignedVector<int32_t> biases = laid_out(bias);
  for (size_t i = 0; i < all.size(); ++i) {
    all[i] = static_cast<int32_t>(static_cast<uint32_t>(all[i]) + static_cast<uint32_t>(biases[i]));
  }
  return all;
}

void Weights::set_panel(Tile& tile, const Panel& panel) const noexcept {
  tile.steps = steps_;
  tile.b = weights_.data() + panel.weights;
  tile.order = order_.data() + panel.order;
  tile.out.columns = panel.columns;
}

size_t Weights::bytes() const noexcept {
  return weights_.size() + (order_.size() + corrections_.size()) * sizeof(int32_t);
}

}  // namespace qfx::gemm
