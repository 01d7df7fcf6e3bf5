#include "conv/conv.h"

#include <algorithm>
#include <cstdint>
#include <tuple>
#include <utility>

#include "conv/costs.h"
#include "conv/problem.h"
#include "conv/select.h"

namespace qfx {
namespace conv {
namespace {

// What the kernels of all panels have in common.
struct Extent {
  int64_t columns;
  int64_t reduction;  // with the zeros that fill up its steps
  bool window;
  double single;  // share of the cost of a single row
};

double vector_panel_cost(const GemmKernel& kernel, int64_t width, int64_t reduction) {
  const VectorCosts& c = costs_of(kernel.isa).vector;
  const auto steps = static_cast<double>((reduction + 3) / 4);
  if (c.pair_step > 0 && width > c.lanes && 2 * width <= 3 * c.lanes) return c.pair_step * steps + c.pair_finish;
  const int64_t vectors = std::min<int64_t>((width + c.lanes - 1) / c.lanes, 4);
  const double loads = c.two_loads ? 1.0 / kernel.rows + 1.0 / static_cast<double>(vectors) : 0.0;
  const double step = kernel.bytes == 1 ? 1.0 : c.words_step;
  const double alone = kernel.packing == Packing::paired ? c.paired_finish : 0.0;
  return static_cast<double>(vectors) * (step * steps * std::max(1.0, loads) + alone) + c.finish[vectors];
}

double tile_panel_cost(const GemmKernel& kernel, int64_t width, int64_t reduction) {
  const VectorCosts& vector = costs_of(kernel.isa).vector;
  const TileCosts& tile = costs_of(kernel.isa).tile;
  const int64_t vectors = (width + vector.lanes - 1) / vector.lanes;
  const double steps = static_cast<double>(reduction) / static_cast<double>(tile.depth);
  return static_cast<double>(vectors) * (tile.step * steps + tile.store) + vector.finish[vectors] + tile.block;
}

// Dot products of one vector for one pixel of all output channels. The columns of a kernel that lie past the last
// panel's width count as far as the narrowest kernel that covers them; short tiles repeat the loads of the weights,
// which shows where the lines of a window cut tiles shorter still and a panel is larger than L1.
double gemm_cost(const GemmKernel& kernel, const Extent& e) {
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

Extent extent_of(const Problem& problem, const GemmKernel& kernel) {
  const ConvGeometry& g = problem.geometry;
  const int64_t reduction = problem.taps() * problem.group_in();
  const int64_t run = g.groups == 1 && g.dilation[2] == 1 ? g.kernel[2] * g.c_in : problem.group_in();
  const int64_t depth = costs_of(kernel.isa).tile.depth;
  const int64_t filled = depth > 0 ? (run + depth - 1) / depth * depth : run;
  const RowCosts& row = costs_of(kernel.isa).row;
  return {problem.group_out(), reduction / run * filled, !problem.unit_kernel(),
          g.linear ? row.linear : (problem.unit_kernel() ? row.unit : 0.0)};
}

// Levels between which the cost decides; else the higher one has it.
int rank(const GemmKernel& kernel) {
  return static_cast<int>(kernel.isa == Isa::amx ? Isa::avx512vnni : kernel.isa);
}

}  // namespace

const GemmKernel* select_gemm(std::span<const GemmKernel> kernels, const Problem& problem, Isa isa) noexcept {
  const GemmKernel* best = nullptr;
  const auto cost = [&](const GemmKernel& k) { return gemm_cost(k, extent_of(problem, k)); };
  for (const GemmKernel& kernel : kernels) {
    if (kernel.packing == Packing::paired && problem.weight.empty()) continue;  // weights that are not constant
    if (!includes(isa, kernel.isa) || (best != nullptr && rank(kernel) < rank(*best))) continue;
    if (best == nullptr || rank(kernel) > rank(*best) || cost(kernel) < cost(*best)) best = &kernel;
  }
  return best;
}

const DepthwiseKernel* select_depthwise(std::span<const DepthwiseKernel> kernels, const Problem& problem,
                                        Isa isa) noexcept {
  const DepthwiseKernel* best = nullptr;
  const auto better = [](const DepthwiseKernel& a, const DepthwiseKernel& b) {
    return std::tuple(a.affine != nullptr, a.isa, a.slide != nullptr) >
           std::tuple(b.affine != nullptr, b.isa, b.slide != nullptr);
  };
  for (const DepthwiseKernel& kernel : kernels) {
    if (!includes(isa, kernel.isa) || !applies(kernel, problem)) continue;
    if (best == nullptr || better(kernel, *best)) best = &kernel;
  }
  return best;
}

}  // namespace conv

std::unique_ptr<PackedConv> pack_conv(const ConvGeometry& geometry, const ConvQuant& quant,
                                      const ConvConstants& constants, Isa isa) {
  conv::Problem problem = conv::make_problem(geometry, quant, constants);
  if (const auto* kernel = conv::select_depthwise(conv::depthwise_kernels(), problem, isa)) {
    return conv::pack_depthwise(*kernel, std::move(problem));
  }
  if (const auto* kernel = conv::select_gemm(conv::gemm_kernels(), problem, isa)) {
    return conv::pack_gemm(*kernel, std::move(problem));
  }
  return conv::pack_scalar(std::move(problem));
}

}  // namespace qfx
