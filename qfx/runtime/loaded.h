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
  // release: the constants that kernels have copies of are not kept, and nothing of `program` is: what else is read of
  // its constants is copied too. Throws ProgramError naming the step whose constants no kernel can take.
  LoadedProgram(const std::shared_ptr<const Program>& program, Isa isa, bool release = false);

  std::shared_ptr<const Program> program;  // without the released constants
  Isa isa;
  std::vector<const OpRow*> rows;                    // one a step
  std::vector<std::unique_ptr<StepKernel>> kernels;  // one a step
  size_t packed_bytes = 0;
  size_t constant_bytes = 0;  // of `program`
};

// What a step sees when the values have these shapes; strides are the dense ones. Throws std::invalid_argument.
StepShapes step_shapes(const LoadedProgram& loaded, size_t step, const std::vector<Dims>& values);

}  // namespace qfx
