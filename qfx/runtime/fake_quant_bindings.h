#pragma once
#include <nanobind/nanobind.h>

namespace qfx {

// The fake_quant_* functions, on addresses of dense tensors.
void bind_fake_quant(nanobind::module_& m);

}  // namespace qfx
