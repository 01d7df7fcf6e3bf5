// For the files that hold the kernels of one level: QFX_IF_<level>(x) is nothing, until the file redefines its own as
// x. The build writes the macros from isa.inc.
#pragma once
#include "core/isa_macros.h"

// QFX_KERNELS(family) { ... } has the kernels of a level that few machines have. The tests compile its files a second
// time, with QFX_MODEL defined: the same kernels, in a namespace of their own, on a model of the level's instructions.
#ifdef QFX_MODEL
#define QFX_KERNELS(family) namespace qfx::family::model
#else
#define QFX_KERNELS(family) namespace qfx::family
#endif
