#pragma once
#include <cstdint>
#include <span>

#include "gemm/tile.h"

namespace qfx::gemm {

// How often a product has a single row, of which a panel's vectors are all that there is to overlap.
enum class SingleRows { never, seldom, often, always };

// What the choice among kernels depends on.
struct Demand {
  int64_t columns = 0;    // of one group
  int64_t reduction = 0;  // of one column
  int64_t run = 0;        // activations of it that lie side by side
  bool window = false;    // lines of a window cut tiles short
  SingleRows single_rows = SingleRows::often;
  bool constant_weights = true;  // they are known when they are packed
};

// The kernel of least estimated cost among those that run on level `isa`; null: none does.
const TileKernel* select(std::span<const TileKernel> kernels, const Demand& demand, Isa isa) noexcept;

}  // namespace qfx::gemm
