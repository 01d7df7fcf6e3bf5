#pragma once
#include <type_traits>

#include "core/isa.h"

namespace qfx {

// One entry of a family's kernels.inc. A kind is a tag type with the kernels' common signature as `Fn`.
template <class Kind>
struct Kernel {
  typename Kind::Fn* run = nullptr;
  const char* name = "";
  Isa isa = Isa::scalar;
};

}  // namespace qfx
