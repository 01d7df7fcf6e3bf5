#pragma once
#include <cstddef>

#include "core/isa.h"

namespace qfx {

// Billions of multiply-accumulates a second that `threads` threads reach together with the widest dot product of
// `isa` that is exact for every u8 and s8, from registers alone. Takes about 10 ms. `isa` must be supported here.
double dot_product_peak(Isa isa, int threads);

// GB/s at which `threads` threads read a buffer of `bytes` over and over, each its own part of it: of the cache level
// that holds it. Takes about 10 ms, and `bytes` of memory; throws std::bad_alloc without it.
double read_bandwidth(size_t bytes, int threads);

}  // namespace qfx
