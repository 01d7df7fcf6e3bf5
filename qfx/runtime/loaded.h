#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/isa.h"
#include "core/packed.h"
#include "runtime/program.h"
#include "runtime/steps/step.h"

namespace qfx {

// What a loaded program keeps of the constants that kernels have copies of, and of the program as a whole: all;
// nothing, and copies of what else is read; or nothing, and views of that, for a program whose bytes are a file's.
enum class Release { nothing, copying, sharing };

// A program whose kernels are chosen and whose weights are packed, for one ISA. Immutable.
struct LoadedProgram {
  // packed: where packing puts what it makes, or takes what was made before; or null. most_bytes: of constants and
  // packed weights together. Throws ProgramError naming the step whose constants no kernel can take, and LimitError.
  LoadedProgram(const std::shared_ptr<const Program>& program, Isa isa, Release release = Release::nothing,
                PackingStore* packed = nullptr, uint64_t most_bytes = UINT64_MAX);

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
