// For the files that define the kernels of one level: QFX_IF_<level>(x) is nothing, until the file redefines its own
// as x.
#pragma once
#define QFX_IF_avx2(...)
#define QFX_IF_avxvnni(...)
#define QFX_IF_avx512vnni(...)
#define QFX_IF_amx(...)
#define QFX_IF_neon(...)
#define QFX_IF_dotprod(...)
#define QFX_IF_i8mm(...)

// QFX_KERNELS(family) { ... } has the kernels of a level that few machines have. The tests compile its files a second
// time, with QFX_MODEL defined: the same kernels, in a namespace of their own, on a model of the level's instructions.
#ifdef QFX_MODEL
#define QFX_KERNELS(family) namespace qfx::family::model
#else
#define QFX_KERNELS(family) namespace qfx::family
#endif
