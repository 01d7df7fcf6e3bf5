#pragma once
#include <vector>

#include "runtime/capi/command/arguments.h"
#include "runtime/capi/command/npy.h"
#include "runtime/capi/qfx.hpp"

namespace qfx::command {

// One array an input of a model: of the files that are named, and random ones where a seed is. Throws UsageError for
// what does not go together, and what read_npy throws.
std::vector<Array> make_inputs(const Arguments& arguments, const std::vector<Value>& inputs);

}  // namespace qfx::command
