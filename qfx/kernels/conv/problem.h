#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "conv/conv.h"
#include "gemm/epilogue.h"

namespace qfx::conv {

// A validated convolution that owns its constants in canonical layout, but for the weights: those are the caller's, and
// are read while they are packed.
struct Problem {
  ConvGeometry geometry;
  ConvQuant quant;
  std::span<const int8_t> weight;          // [c_out][taps][c_in / groups]
  std::vector<int32_t> weight_zero_point;  // [c_out] or empty
  std::vector<int32_t> bias;               // [c_out]
  std::vector<float> multiplier;           // [c_out]
  gemm::LookupTable lut;
  std::vector<int32_t> folded_bias;  // bias - x_zero_point * sum(w - weight_zero_point), modulo 2^32
  bool byte_permutes = false;        // see gemm::Epilogue
  double bound = 0;                  // of |v| over every possible input

  int64_t group_in() const noexcept { return geometry.c_in / geometry.groups; }
  int64_t group_out() const noexcept { return geometry.c_out / geometry.groups; }
  int64_t taps() const noexcept { return geometry.kernel[0] * geometry.kernel[1] * geometry.kernel[2]; }
  bool padded() const noexcept;
  bool unit_kernel() const noexcept { return taps() == 1; }

  // w - weight_zero_point, in [-255, 255] when the zero point fits s8.
  int32_t centered(int64_t o, int64_t tap, int64_t c) const noexcept {
    const int32_t w = weight[static_cast<size_t>((o * taps() + tap) * group_in() + c)];
    return weight_zero_point.empty() ? w : w - weight_zero_point[static_cast<size_t>(o)];
  }
};

// Throws std::invalid_argument, naming the field, for anything that the kernels could not compute exactly.
Problem make_problem(const ConvGeometry& geometry, const ConvQuant& quant, const ConvConstants& constants);

// It refers to the table of the problem.
gemm::Epilogue epilogue_of(const Problem& problem) noexcept;

// Element `at` of a residual, if there is one, as what row 0 of `out` adds.
void set_residual(gemm::Output& out, const ConvQuant& quant, const void* residual, int64_t at) noexcept;

// Throws std::invalid_argument unless `shape` is what `geometry` makes of its input.
void check_shape(const ConvGeometry& geometry, const ConvShape& shape);

// Padding before the first row (dim 1).
inline int64_t rows_above(const ConvGeometry& geometry, const ConvShape& shape) noexcept {
  return shape.row_pad_lo >= 0 ? shape.row_pad_lo : geometry.pad_lo[1];
}

inline int64_t pixels(const int64_t (&extent)[3]) noexcept {
  return extent[0] * extent[1] * extent[2];
}

// Multiply-accumulates, those with padding too.
inline int64_t products_of(const Problem& problem, const ConvShape& shape) noexcept {
  return shape.n * pixels(shape.out) * problem.geometry.c_out * problem.taps() * problem.group_in();
}

// The simple loops that define the result.
std::unique_ptr<PackedConv> pack_scalar(Problem problem);

}  // namespace qfx::conv
