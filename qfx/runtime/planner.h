#pragma once
#include <memory>
#include <vector>

#include "runtime/loaded.h"
#include "runtime/plan.h"

namespace qfx {

// Throws InputError naming the input or the step that the shapes do not fit.
Plan make_plan(std::shared_ptr<const LoadedProgram> loaded, const std::vector<InputLayout>& inputs,
               const PlanOptions& options);

}  // namespace qfx
