#pragma once
#include <cstddef>
#include <memory>
#include <vector>

#include "core/isa.h"
#include "runtime/program.h"
#include "runtime/steps/step.h"

namespace qfx {

// A program whose kernels are chosen and whose weights are packed, for one ISA. Immutable.
struct LoadedProgram {
  // Throws ProgramError naming the step whose constants no kernel can take.
  LoadedProgram(std::shared_ptr<const Program> program, Isa isa);

  std::shared_ptr<const Program> program;
  Isa isa;
  std::vector<const OpRow*> rows;                    // one a step
  std::vector<std::unique_ptr<StepKernel>> kernels;  // one a step
  size_t packed_bytes = 0;
};

// What a step sees when the values have these shapes; strides are the dense ones. Throws std::invalid_argument.
StepShapes step_shapes(const LoadedProgram& loaded, size_t step, const std::vector<Dims>& values);

}  // namespace qfx
