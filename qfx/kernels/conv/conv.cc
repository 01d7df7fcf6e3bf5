#include "conv/conv.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "conv/depthwise.h"
#include "conv/gemm.h"
#include "conv/problem.h"

namespace qfx {
namespace {

using conv::DepthwiseKernel;
using conv::GemmKernel;
using conv::Problem;

// Vectors of 16 columns; what finishing a row of so many costs in dot products of one vector (measured on Zen 4).
constexpr double kFinishCost[] = {0.0, 6.0, 8.0, 12.5, 12.0};

// Dot products for one pixel of `columns` output channels. The columns of a kernel that lie past the last panel's
// width count as far as the narrowest kernel that covers them; short tiles repeat the loads of the weights, which
// shows where the lines of a window cut tiles shorter still and a panel is larger than L1.
double gemm_cost(const GemmKernel& kernel, int64_t columns, int64_t reduction, bool window) {
  const auto panel_cost = [&](int64_t width) {
    const int64_t vectors = std::min<int64_t>((width + 15) / 16, 4);
    return static_cast<double>(vectors * ((reduction + 3) / 4)) + kFinishCost[vectors];
  };
  const int64_t last = (columns - 1) / kernel.columns;
  const double repeats = window && reduction > 384 ? 0.5 : 0.2;
  return (static_cast<double>(last) * panel_cost(kernel.columns) + panel_cost(columns - last * kernel.columns)) *
         (1.0 + repeats / kernel.rows);
}

const GemmKernel* choose_gemm(const Problem& problem, Isa isa) {
  const GemmKernel* best = nullptr;
  for (const GemmKernel& kernel : conv::gemm_kernels()) {
    if (!includes(isa, kernel.isa) || (best != nullptr && kernel.isa < best->isa)) continue;
    const auto cost = [&](const GemmKernel& k) {
      return gemm_cost(k, problem.group_out(), problem.taps() * problem.group_in(), !problem.unit_kernel());
    };
    if (best == nullptr || kernel.isa > best->isa || cost(kernel) < cost(*best)) best = &kernel;
  }
  return best;
}

// An affine kernel before a depthwise one, a higher level before a lower one.
const DepthwiseKernel* choose_depthwise(const Problem& problem, Isa isa) {
  const DepthwiseKernel* best = nullptr;
  const auto rank = [](const DepthwiseKernel& k) {
    return 2 * static_cast<int>(k.isa) + (k.affine != nullptr ? 1 : 0);
  };
  for (const DepthwiseKernel& kernel : conv::depthwise_kernels()) {
    if (!includes(isa, kernel.isa) || !conv::applies(kernel, problem)) continue;
    if (best == nullptr || rank(kernel) > rank(*best)) best = &kernel;
  }
  return best;
}

}  // namespace

std::unique_ptr<PackedConv> pack_conv(const ConvGeometry& geometry, const ConvQuant& quant,
                                      const ConvConstants& constants, Isa isa) {
  Problem problem = conv::make_problem(geometry, quant, constants);
  if (const DepthwiseKernel* kernel = choose_depthwise(problem, isa)) {
    return conv::pack_depthwise(*kernel, std::move(problem));
  }
  if (const GemmKernel* kernel = choose_gemm(problem, isa)) return conv::pack_gemm(*kernel, std::move(problem));
  return conv::pack_scalar(std::move(problem));
}

}  // namespace qfx
