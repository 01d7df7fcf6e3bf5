#include "conv/conv.h"

#include <algorithm>
#include <cstdint>
#include <tuple>
#include <utility>

#include "conv/problem.h"
#include "conv/select.h"

namespace qfx {
namespace conv {
namespace {

// Vectors of 16 columns; what finishing a row of so many costs in dot products of one vector (measured on Zen 4).
constexpr double kFinishCost[] = {0.0, 6.0, 8.0, 12.5, 12.0};

// The same for a vector and a half, where two rows share the third vector; and what a row's part in filling it adds to
// a step.
constexpr double kFinishPairCost = 7.0;
constexpr double kPairStepCost = 1.6;
// Of a row of eight columns, where vectors have eight.
constexpr double kFinishEightCost = 6.0;

// Tiles of 16 pixels by 16 columns, for one pixel, in the same unit. Estimated, never measured: a tile instruction is
// taken for four dot products of a vector a pixel with the loads of its operands; sums pass through memory to their
// epilogue, and a block waits for its first loads.
constexpr int64_t kTileDepth = 4 * kTileSteps;
constexpr double kTileStepCost = 4.0;
constexpr double kTileStoreCost = 3.0;
constexpr double kTileBlockCost = 3.0;

// A single row has a panel's vectors to overlap its dot products with and no more: its share in the cost of a linear
// layer, of which batch 1 is the usual one, and of a convolution of one tap, few of which are of one pixel (squeeze and
// excite).
constexpr double kLinearRowCost = 0.2;
constexpr double kUnitRowCost = 0.07;

// What the kernels of all panels have in common.
struct Extent {
  int64_t columns;
  int64_t reduction;  // with the zeros that fill up its steps
  bool window;
  double single;  // share of the cost of a single row
};

double vector_panel_cost(const GemmKernel& kernel, int64_t width, int64_t reduction) {
  const auto steps = static_cast<double>((reduction + 3) / 4);
  if (includes(kernel.isa, Isa::avx512vnni)) {
    if (width > 16 && width <= 24) return kPairStepCost * steps + kFinishPairCost;
    const int64_t vectors = std::min<int64_t>((width + 15) / 16, 4);
    return static_cast<double>(vectors) * steps + kFinishCost[vectors];
  }
  // Two loads a cycle, as many as dot products: a row's activations and a column's weights, once a step of a tile.
  const auto vectors = static_cast<double>((width + 7) / 8);
  const double loads = 1.0 / kernel.rows + 1.0 / vectors;
  // Words take two products where bytes take one.
  return vectors * (kernel.bytes * steps * std::max(1.0, loads) + kFinishEightCost);
}

double tile_panel_cost(int64_t width, int64_t reduction) {
  const int64_t vectors = (width + 15) / 16;
  const double steps = static_cast<double>(reduction) / kTileDepth;
  return static_cast<double>(vectors) * (kTileStepCost * steps + kTileStoreCost) + kFinishCost[vectors] +
         kTileBlockCost;
}

// Dot products of one vector for one pixel of all output channels. The columns of a kernel that lie past the last
// panel's width count as far as the narrowest kernel that covers them; short tiles repeat the loads of the weights,
// which shows where the lines of a window cut tiles shorter still and a panel is larger than L1.
double gemm_cost(const GemmKernel& kernel, const Extent& e) {
  const auto panel_cost = [&](int64_t width) {
    return kernel.isa == Isa::amx ? tile_panel_cost(width, e.reduction) : vector_panel_cost(kernel, width, e.reduction);
  };
  const int64_t last = (e.columns - 1) / kernel.columns;
  const double repeats = e.window && e.reduction > 384 ? 0.5 : 0.2;
  const double lanes = includes(kernel.isa, Isa::avx512vnni) ? 16.0 : 8.0;
  const double single = e.single * lanes / static_cast<double>(kernel.columns);
  return (static_cast<double>(last) * panel_cost(kernel.columns) + panel_cost(e.columns - last * kernel.columns)) *
         (1.0 + repeats / kernel.rows + single);
}

Extent extent_of(const Problem& problem, const GemmKernel& kernel) {
  const ConvGeometry& g = problem.geometry;
  const int64_t reduction = problem.taps() * problem.group_in();
  const int64_t run = g.groups == 1 && g.dilation[2] == 1 ? g.kernel[2] * g.c_in : problem.group_in();
  const int64_t filled = (run + kTileDepth - 1) / kTileDepth * kTileDepth;
  return {problem.group_out(), kernel.isa == Isa::amx ? reduction / run * filled : reduction, !problem.unit_kernel(),
          g.linear ? kLinearRowCost : (problem.unit_kernel() ? kUnitRowCost : 0.0)};
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
