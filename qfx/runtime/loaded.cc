#include "runtime/loaded.h"

#include <stdexcept>
#include <utility>

#include "runtime/errors.h"
#include "runtime/shapes.h"

namespace qfx {

LoadedProgram::LoadedProgram(std::shared_ptr<const Program> p, Isa chosen) : program(std::move(p)), isa(chosen) {
  for (const Step& step : program->steps()) {
    rows.push_back(find_op(step.op));
    try {
      kernels.push_back(rows.back()->load(StepView(*program, step), isa));
    } catch (const std::invalid_argument& error) {
      throw ProgramError(step.name, error.what());
    }
    packed_bytes += kernels.back()->packed_bytes();
  }
}

StepShapes step_shapes(const LoadedProgram& loaded, size_t s, const std::vector<Dims>& values) {
  const Step& step = loaded.program->steps()[s];
  StepShapes in;
  for (const int v : step.inputs) {
    in.inputs.push_back(values[v]);
    in.strides.push_back(dense_strides(values[v]));
  }
  for (const auto& [name, ids] : step.exprs) {
    for (const int e : ids) in.exprs[name].push_back(evaluate(loaded.program->exprs(), e, values));
    in.exprs.try_emplace(name);
  }
  return in;
}

}  // namespace qfx
