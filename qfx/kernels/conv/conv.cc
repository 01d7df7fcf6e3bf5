#include "conv/conv.h"

#include <utility>

#include "conv/depthwise.h"
#include "conv/implicit_gemm.h"
#include "conv/problem.h"

namespace qfx {

std::unique_ptr<PackedConv> pack_conv(const ConvGeometry& geometry, const ConvQuant& quant,
                                      const ConvConstants& constants, Isa isa) {
  conv::Problem problem = conv::make_problem(geometry, quant, constants);
  if (const auto* kernel = conv::select_depthwise(conv::depthwise_kernels(), problem, isa)) {
    return conv::pack_depthwise(*kernel, std::move(problem));
  }
  if (isa == Isa::scalar) return conv::pack_scalar(std::move(problem));
  const gemm::TileKernel& kernel = *gemm::select(gemm::kernels(), conv::demand_of(problem), isa);
  return conv::pack_implicit_gemm(kernel, std::move(problem));
}

}  // namespace qfx
