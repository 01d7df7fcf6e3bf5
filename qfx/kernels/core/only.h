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
