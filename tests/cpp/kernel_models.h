#pragma once
#include <span>
#include <string>
#include <vector>

#include "attention/kernels.h"
#include "conv/depthwise.h"
#include "gemm/tile.h"

namespace qfx::test {

// Where the kernels of a level run on this machine: as they are, or on a model of the instructions that it lacks.
enum class RunsOn { hardware, model, nowhere };
RunsOn runs_on(Isa isa) noexcept;

// The kernels of products of this architecture, models in the place of those that the hardware lacks. Those of a level
// that runs nowhere must not be called.
std::span<const gemm::TileKernel> runnable_gemm_kernels();
std::span<const conv::DepthwiseKernel> runnable_depthwise_kernels();
std::span<const Kernel<attention::Attend>> runnable_attention_kernels();

// The kernels of kernels.inc that ran as a model here.
std::vector<std::string> model_kernels();

}  // namespace qfx::test
