#pragma once
// Tile registers and what kernels of level amx do with them, for *__amx.cc files only. Everything has internal linkage,
// so that no instruction of this level reaches a baseline object through a merged inline function.
//
// With QFX_MODEL the operations run on a model of the instructions in plain C++, which the tests define.
#include <cstdint>

#ifdef QFX_MODEL
#include "tile_model.h"
#endif

namespace qfx::tile {

// The operand of LDTILECFG. A tile's rows and bytes are at most 16 and 64, and both 0 for a tile that is not used.
struct alignas(64) Config {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};
static_assert(sizeof(Config) == 64);

namespace {

// Zeroes all tiles. The configuration belongs to the thread, and costs it time at every context switch and sleep until
// release().
inline void configure(const Config& config) noexcept {
#ifdef QFX_MODEL
  model().ldtilecfg(&config);
#else
  __asm__ volatile("ldtilecfg %0" : : "m"(config));
#endif
}

inline void release() noexcept {
#ifdef QFX_MODEL
  model().tilerelease();
#else
  __asm__ volatile("tilerelease");
#endif
}

// Row r of tile T is what starts at `from + r * stride`, and no byte more.
template <int T>
inline void load(const void* from, int64_t stride) noexcept {
#ifdef QFX_MODEL
  model().tileloadd(T, from, stride);
#else
  __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(stride), "i"(T) : "memory");
#endif
}

template <int T>
inline void store(void* to, int64_t stride) noexcept {
#ifdef QFX_MODEL
  model().tilestored(T, to, stride);
#else
  __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(stride), "i"(T) : "memory");
#endif
}

// C[m][n] += sum over k of dot(A[m][k], B[k][n]): s32, four u8 and four s8 an element. Modulo 2^32.
template <int C, int A, int B>
inline void dot_u8s8() noexcept {
#ifdef QFX_MODEL
  model().tdpbusd(C, A, B);
#else
  __asm__ volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(A), "i"(B));
#endif
}

}  // namespace
}  // namespace qfx::tile
