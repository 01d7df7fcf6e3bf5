#pragma once
#include <cstdint>
#include <memory>

#include "core/isa.h"
#include "core/work.h"
#include "gemm/quantized_rows.h"

namespace qfx {

// f32 [blocks][block] times the orthonormal Hadamard matrix: see rotation::Rotate. Throws std::invalid_argument for a
// block that is none of rotation::kBlocks.
std::unique_ptr<Work> plan_rotate(int64_t blocks, int64_t block, Isa isa);

// f32 [rows][features], of which a block is a divisor, rotated and quantized: what rotating and how.plan() give.
std::unique_ptr<Work> plan_rotate_rows(int64_t rows, int64_t block, const QuantizedRows& how);

}  // namespace qfx
