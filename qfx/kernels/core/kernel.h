#pragma once
#include <algorithm>
#include <type_traits>
#include <vector>

#include "core/isa.h"

namespace qfx {

// One entry of a family's kernels.inc. A kind is a tag type with the kernels' common signature as `Fn`.
template <class Kind>
struct Kernel {
  typename Kind::Fn* run = nullptr;
  const char* name = "";
  Isa isa = Isa::scalar;
};

// The names of the kernels that `parts` point to, each once.
template <class Parts>
std::vector<const char*> names_of_kernels(const Parts& parts) {
  std::vector<const char*> names;
  for (const auto& part : parts)
    if (std::find(names.begin(), names.end(), part.kernel->name) == names.end()) names.push_back(part.kernel->name);
  return names;
}

}  // namespace qfx
