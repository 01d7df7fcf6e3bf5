#pragma once
#include <span>

#include "conv/depthwise.h"
#include "conv/gemm.h"

namespace qfx::conv {

// The kernel of least estimated cost among those that run on level `isa`; null: none does.
const GemmKernel* select_gemm(std::span<const GemmKernel> kernels, const Problem& problem, Isa isa) noexcept;

// The same among those that apply too: an affine kernel before a depthwise one, a higher level before a lower one.
const DepthwiseKernel* select_depthwise(std::span<const DepthwiseKernel> kernels, const Problem& problem,
                                        Isa isa) noexcept;

}  // namespace qfx::conv
