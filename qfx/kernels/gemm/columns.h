#pragma once
#include <cstddef>
#include <cstdint>

#include "gemm/tile.h"

namespace qfx::gemm {

// A matrix of u8 values to be packed as weights.
struct CodeColumns {
  const uint8_t* y;  // of the first column
  int64_t k;
  int64_t row;  // elements between neighbours along k
  int64_t col;  // between columns
  int64_t columns;
};

// Packs columns for `kernel` into `steps` steps: y - 128 as s8, or y - zero_point as s16. sums[i]: of column i as
// packed. Columns and steps that are left over are zero.
void pack_columns(const TileKernel& kernel, const CodeColumns& from, int64_t steps, int32_t zero_point, std::byte* to,
                  int32_t* sums) noexcept;

}  // namespace qfx::gemm
