#pragma once
#include <nanobind/nanobind.h>

namespace qfx {

// Files, signatures and models that need no torch.
void bind_serving(nanobind::module_& m);

}  // namespace qfx
