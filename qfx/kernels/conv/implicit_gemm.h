#pragma once
#include <memory>
#include <span>

#include "conv/problem.h"
#include "gemm/select.h"
#include "gemm/tile.h"

namespace qfx::conv {

gemm::Demand demand_of(const Problem& problem) noexcept;

// A convolution of any geometry as a matrix product: its rows are output pixels, whose activations are read where they
// lie, or from a padded copy of a few lines. Panels narrower than the kernel's may use one of `kernels`; all of them
// must outlive the result.
std::unique_ptr<PackedConv> pack_implicit_gemm(const gemm::TileKernel& kernel, Problem problem,
                                               std::span<const gemm::TileKernel> kernels = gemm::kernels());

}  // namespace qfx::conv
