#include "gemm/select.h"

#include <algorithm>

#include "gemm/costs.h"

namespace qfx::gemm {
namespace {

// What the kernels of all panels have in common.
struct Extent {
  int64_t columns;
  int64_t reduction;  // with the zeros that fill up its steps
  bool window;
  double single;  // share of the cost of a single row
};

double vector_panel_cost(const TileKernel& kernel, int64_t width, int64_t reduction) {
  const VectorCosts& c = costs_of(kernel.isa).vector;
  const int64_t count = (reduction + 3) / 4;
  const auto steps = static_cast<double>(count);
  if (c.pair_step > 0 && width > c.lanes && 2 * width <= int64_t{3} * c.lanes)
    return c.pair_step * steps + c.pair_finish;
  const int64_t vectors = std::min<int64_t>((width + c.lanes - 1) / c.lanes, 4);
  const double loads = c.two_loads ? 1.0 / kernel.rows + 1.0 / static_cast<double>(vectors) : 0.0;
  const double step = kernel.bytes == 1 ? 1.0 : c.words_step;
  const double alone = kernel.packing == Packing::paired ? c.paired_finish : 0.0;
  return static_cast<double>(vectors) * (step * steps * std::max(1.0, loads) + alone) + c.finish[vectors];
}

double tile_panel_cost(const TileKernel& kernel, int64_t width, int64_t reduction) {
  const VectorCosts& vector = costs_of(kernel.isa).vector;
  const TileCosts& tile = costs_of(kernel.isa).tile;
  const int64_t vectors = (width + vector.lanes - 1) / vector.lanes;
  const double steps = static_cast<double>(reduction) / static_cast<double>(tile.depth);
  return static_cast<double>(vectors) * (tile.step * steps + tile.store) + vector.finish[vectors] + tile.block;
}

// Dot products of one vector for one row of all columns. The columns of a kernel that lie past the last
// panel's width count as far as the narrowest kernel that covers them; short tiles repeat the loads of the weights,
// which shows where the lines of a window cut tiles shorter still and a panel is larger than L1.
double kernel_cost(const TileKernel& kernel, const Extent& e) {
  const Costs& costs = costs_of(kernel.isa);
  const auto panel_cost = [&](int64_t width) {
    return costs.tile.depth > 0 ? tile_panel_cost(kernel, width, e.reduction)
                                : vector_panel_cost(kernel, width, e.reduction);
  };
  const int64_t last = (e.columns - 1) / kernel.columns;
  const double repeats = e.window && e.reduction > 384 ? 0.5 : 0.2;
  const double single = e.single * costs.vector.lanes / static_cast<double>(kernel.columns);
  return (static_cast<double>(last) * panel_cost(kernel.columns) + panel_cost(e.columns - last * kernel.columns)) *
         (1.0 + repeats / kernel.rows + single);
}

Extent extent_of(const Demand& demand, const TileKernel& kernel) {
  const Costs& costs = costs_of(kernel.isa);
  const int64_t depth = costs.tile.depth;
  const int64_t filled = depth > 0 ? (demand.run + depth - 1) / depth * depth : demand.run;
  const double single[] = {0.0, costs.row.seldom, costs.row.often, costs.row.often};
  return {demand.columns, demand.reduction / demand.run * filled, demand.window,
          single[static_cast<int>(demand.single_rows)]};
}

// Levels between which the cost decides; else the higher one has it.
int rank(const TileKernel& kernel) {
  return static_cast<int>(kernel.isa == Isa::amx ? Isa::avx512vnni : kernel.isa);
}

}  // namespace

const TileKernel* select(std::span<const TileKernel> kernels, const Demand& demand, Isa isa) noexcept {
  const TileKernel* best = nullptr;
  const auto cost = [&](const TileKernel& k) { return kernel_cost(k, extent_of(demand, k)); };
  for (const TileKernel& kernel : kernels) {
    if (kernel.packing == Packing::paired && !demand.constant_weights) continue;
    const bool in_tiles = costs_of(kernel.isa).tile.depth > 0;
    if (demand.single_rows == SingleRows::always && in_tiles) continue;  // they compute 16 rows
    if (!includes(isa, kernel.isa) || (best != nullptr && rank(kernel) < rank(*best))) continue;
    if (best == nullptr || rank(kernel) > rank(*best) || cost(kernel) < cost(*best)) best = &kernel;
  }
  return best;
}

}  // namespace qfx::gemm
