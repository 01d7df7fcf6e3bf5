#pragma once
// For *__avxvnni.cc files only.

// acc += the dot products of each four u8 of `a` and s8 of `b`: __m256i all three. Inline assembly: gcc 12 copies
// registers around the intrinsic. With QFX_MODEL the same instruction as AVX512-VNNI encodes it, in the same registers.
#ifdef QFX_MODEL
#define QFX_VEX
#else
#define QFX_VEX "%{vex%} "
#endif
#define QFX_DOT(acc, a, b) __asm__(QFX_VEX "vpdpbusd %2, %1, %0" : "+x"(acc) : "x"(a), "x"(b))
