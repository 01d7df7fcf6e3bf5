#pragma once
#include <cstdint>
#include <memory>

#include "core/isa.h"
#include "core/work.h"

namespace qfx {

// f32 [blocks][block] times the orthonormal Hadamard matrix: see rotation::Rotate. Throws std::invalid_argument for a
// block that is none of rotation::kBlocks.
std::unique_ptr<Work> plan_rotate(int64_t blocks, int64_t block, Isa isa);

}  // namespace qfx
