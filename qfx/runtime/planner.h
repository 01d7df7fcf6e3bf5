#pragma once
#include <memory>
#include <vector>

#include "runtime/loaded.h"
#include "runtime/phase_cache.h"
#include "runtime/plan.h"

namespace qfx {

// known: phases of this program's plans, or null. Throws InputError naming the input or the step that the shapes do not
// fit.
Plan make_plan(std::shared_ptr<const LoadedProgram> loaded, const std::vector<InputLayout>& inputs,
               const PlanOptions& options, PhaseCache* known = nullptr);

}  // namespace qfx
