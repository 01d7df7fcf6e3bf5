#pragma once
#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "core/aligned.h"
#include "core/packed.h"
#include "core/split.h"
#include "gemm/tile.h"

namespace qfx::gemm {

// The weights of one column: runs of Matrix::length neighbours, one run after the other. They stand from `first` on in
// the runs of the activations; what is left of those has weight 0. No weights: all of it has.
struct Column {
  const int8_t* weights = nullptr;
  int64_t first = 0;
  int32_t zero_point = 0;
};

// Weights as they are before they are packed. They are read while they are packed, and not kept.
struct Matrix {
  std::vector<Column> columns;
  int64_t segment = 0;     // columns: panels end at its multiples
  int64_t runs = 1;        // of the reduction
  int64_t run_length = 0;  // activations of a run
  int64_t length = 0;      // weights of a run
};

// Columns that a kernel multiplies with at once.
struct Panel {
  const TileKernel* kernel;
  int64_t first;  // column
  int64_t columns;
  int64_t weights;  // byte offset
  int64_t bytes;    // of weights
  int64_t vectors;  // offset into what there is of each column
  int64_t order;    // offset, where steps are paired
};

// A matrix of constant weights packed for a kernel; the last panels may use narrower ones of `kernels`. All of them
// must outlive it.
class Weights {
 public:
  Weights(const TileKernel& kernel, const Matrix& matrix, std::span<const TileKernel> kernels = gemm::kernels());

  const TileKernel& kernel() const noexcept { return *kernel_; }
  const std::vector<Panel>& panels() const noexcept { return panels_; }
  int64_t panel_count() const noexcept { return static_cast<int64_t>(panels_.size()); }
  int64_t steps() const noexcept { return steps_; }  // of a run
  // How often the reduction is walked: the s8 terms that a weight less its zero point is split into.
  int64_t parts() const noexcept { return parts_; }
  size_t bytes() const noexcept;

  // What there is of each column as the panels want it: at Panel::vectors + i that of column Panel::first + i, and
  // zeros for what a vector of the last columns reads beside them.
  template <class T>
  AlignedVector<T> laid_out(std::span<const T> of_columns) const;
  // What sums start from for biases modulo 2^32 (none: 0): with what kernels leave out of the sums of activations.
  AlignedVector<int32_t> starts(std::span<const int32_t> bias) const;

  // A panel's weights; the caller sets what else there is of its columns.
  void set_panel(Tile& tile, const Panel& panel) const noexcept;

  // run(tile, panel, fetched) for each panel of `range`: `tile` with the panel's weights, and those of the next panel
  // to fetch meanwhile, of which `rows` rows fetch `fetched` bytes. Else a tile is as the panel before left it.
  template <class Run>
  void for_each_panel(Range range, Tile& tile, int64_t rows, Run&& run) const noexcept;

  // One row: the tiles of several panels at once, which are far apart. place(tile, panel) sets what else there is of a
  // panel's columns. Returns the first panel that is left.
  template <class Place>
  int64_t in_streams(Range range, const Tile& tile, Place&& place) const noexcept;

 private:
  int64_t lay_out_panels(const Matrix& matrix, std::span<const TileKernel> kernels);  // bytes of all weights
  void pack(const Matrix& matrix, std::byte* weights) const;
  void pack_column(const Panel& panel, const Matrix& matrix, int64_t column, std::byte* weights) const;
  void correct(const Matrix& matrix, int32_t* corrections) const;
  void pack_pairs(const Matrix& matrix, int64_t bytes);

  const TileKernel* kernel_;
  int64_t runs_, steps_, parts_;
  int64_t vectors_ = 0;
  std::vector<Panel> panels_;
  PackedArray<std::byte> weights_;
  AlignedVector<int32_t> order_;
  PackedArray<int32_t> corrections_;
};

template <class T>
AlignedVector<T> Weights::laid_out(std::span<const T> of_columns) const {
  AlignedVector<T> all(static_cast<size_t>(vectors_));
  for (const Panel& panel : panels_) {
    std::copy_n(of_columns.begin() + panel.first, panel.columns, all.begin() + panel.vectors);
  }
  return all;
}

template <class Run>
void Weights::for_each_panel(Range range, Tile& tile, int64_t rows, Run&& run) const noexcept {
  const int64_t fetched = ceil_div(rows, kernel_->rows) * tile.tap_count * tile.steps * kAheadBytes;
  for (int64_t i = range.begin; i < range.end; ++i) {
    const Panel& panel = panels_[static_cast<size_t>(i)];
    const Panel& next = panels_[static_cast<size_t>(i + 1 < range.end ? i + 1 : range.begin)];
    set_panel(tile, panel);
    tile.ahead = weights_.data() + next.weights;
    tile.ahead_bytes = &next == &panel ? 0 : next.bytes;
    run(tile, panel, fetched);
  }
}

template <class Place>
int64_t Weights::in_streams(Range range, const Tile& tile, Place&& place) const noexcept {
  if (range.begin >= range.end) return range.begin;
  const TileKernel& kernel = *panels_[static_cast<size_t>(range.begin)].kernel;
  if (kernel.streams == nullptr) return range.begin;
  int64_t count = range.end - range.begin;
  if (panels_[static_cast<size_t>(range.end - 1)].kernel != &kernel) --count;  // the last one may be narrower
  const int64_t apart = count / kStreams;
  Tile tiles[kStreams];
  std::fill_n(tiles, kStreams, tile);
  for (int64_t i = 0; i < apart; ++i) {
    for (int64_t s = 0; s < kStreams; ++s) {
      const Panel& panel = panels_[static_cast<size_t>(range.begin + s * apart + i)];
      set_panel(tiles[s], panel);
      place(tiles[s], panel);
    }
    kernel.streams(tiles);
  }
  return range.begin + apart * kStreams;
}

}  // namespace qfx::gemm
