#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/isa.h"
#include "core/work.h"
#include "gemm/tile.h"

namespace qfx {

// acc = sum over k of (x - x_zero_point) * (y - y_zero_point)          exact, s32
// v   = float(acc) * multiplier
struct MatmulQuant : gemm::ResultQuant {
  int32_t x_zero_point = 0;
  int32_t y_zero_point = 0;
  float multiplier = 0.0f;
  std::vector<uint8_t> lut;  // 256 entries, or empty
};

// Distances between neighbours in elements. Those of k in x and of n in the result are 1.
struct MatmulShape {
  int64_t m = 0, k = 0, n = 0;
  int64_t x_row = 0;             // >= k
  int64_t y_row = 0, y_col = 0;  // between neighbours along k and along n
  int64_t out_row = 0;           // >= n
  std::vector<int64_t> batch;    // sizes of the batch dims; an operand that is broadcast along one has stride 0 there
  std::vector<int64_t> x_batch, y_batch, out_batch;
};

// Matrix products of u8 operands. Work::run takes in = {x, y}, out = {result}; x may be read up to 64 bytes past its
// last element. Throws std::invalid_argument for what could not be computed exactly.
std::unique_ptr<Work> plan_matmul(const MatmulQuant& quant, const MatmulShape& shape, Isa isa);

namespace gemm {

// The same with that kernel: x is its activations, and y is packed as its weights while it runs.
std::unique_ptr<Work> plan_matmul_gemm(const TileKernel& kernel, const MatmulQuant& quant, const MatmulShape& shape,
                                       std::span<const TileKernel> kernels = gemm::kernels());

// The simple loops that define the result.
std::unique_ptr<Work> plan_matmul_scalar(const MatmulQuant& quant, const MatmulShape& shape);

}  // namespace gemm
}  // namespace qfx
