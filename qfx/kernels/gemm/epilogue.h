#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace qfx::gemm {

// What a value v becomes.
// u8 output:  y = lut[requantize(v, zero_point, lo, hi)]      (lut absent: the identity)
// f32 output: y = min(max(v, f32_lo), f32_hi)
struct ResultQuant {
  bool f32_output = false;
  int32_t zero_point = 0;
  int32_t lo = 0;
  int32_t hi = 255;
  float f32_lo = -__builtin_inff();
  float f32_hi = __builtin_inff();
};

// What a kernel does with its sums; see ConvQuant. Identity values where a part is absent.
struct Epilogue : ResultQuant {
  bool bounded = false;  // no value reaches 2^30, so that rounding needs no clamp in front
  int32_t residual_zero_point = 0;
  float residual_multiplier = 0;
  const uint8_t* lut = nullptr;        // 256 entries
  const uint8_t* lut_pairs = nullptr;  // the same: see LookupTable
  bool byte_permutes = false;          // this CPU has them (AVX512-VBMI), for the level that may lack them
};

// A product's epilogue, without residual and table.
Epilogue epilogue_of(const ResultQuant& result, double bound) noexcept;

// Whether a value that far from 0 leaves an epilogue bounded.
constexpr bool is_bounded(double bound) noexcept {
  return bound < 0x1p30;
}

bool has_byte_permutes() noexcept;

// The 256 entries of an epilogue's table, or none.
struct LookupTable {
  LookupTable() = default;
  explicit LookupTable(std::span<const uint8_t> all);

  std::vector<uint8_t> entries;
  std::vector<uint8_t> pairs;  // entries i and i + 64 side by side, i + 128 and i + 192 after them all

  // The epilogue must not outlive the table.
  void attach(Epilogue& epilogue) const noexcept;
};

// What sums are made of where the rows of activations were quantized as they came:
//   s = sum - zero_point[row] * column_sum[column] - column_zero_point[column] * row_sum[row]      modulo 2^32
//   v = float(s) * (scale[row] * multiplier[column]) + bias[column] (+ addend)                    each rounded
// with f32 output.
struct Dynamic {
  const float* scale = nullptr;  // of each row; null: rows are not
  const int32_t* zero_point = nullptr;
  const int32_t* row_sum = nullptr;            // of its codes, where columns have zero points
  const int32_t* column_sum = nullptr;         // of its weights less their zero point
  const int32_t* column_zero_point = nullptr;  // or null: all 0
  const float* bias = nullptr;
  bool uniform = false;  // all rows have the scale and the zero point of the first
};

// Where the sums of one tile or line go: rows of up to `columns` neighbours.
struct Output {
  void* y = nullptr;                  // row 0, u8 or f32
  int64_t y_row = 0;                  // elements between rows
  const uint8_t* residual = nullptr;  // or null
  int64_t residual_row = 0;
  const float* addend = nullptr;  // added to values of f32 output, row 0; or null
  int64_t addend_row = 0;
  const int32_t* row_bias = nullptr;  // added to all sums of a row, modulo 2^32; or null
  const float* multiplier = nullptr;
  int64_t columns = 0;
  const Epilogue* epilogue = nullptr;
  Dynamic dynamic;
};

}  // namespace qfx::gemm
