#pragma once
#include <cstdint>

#include "conv/problem.h"

namespace qfx::conv {

// What a kernel does with its accumulators; see ConvQuant. Identity values where a part is absent.
struct Epilogue {
  bool bounded = false;  // no value reaches 2^30, so that rounding needs no clamp in front
  int32_t zero_point = 0;
  int32_t lo = 0;
  int32_t hi = 255;
  bool f32_output = false;
  float f32_lo = 0;
  float f32_hi = 0;
  int32_t residual_zero_point = 0;
  float residual_multiplier = 0;
  const uint8_t* lut = nullptr;  // 256 entries
  const uint8_t* lut_pairs =
      nullptr;  // the same: entries i and i + 64 side by side, i + 128 and i + 192 after them all
  bool byte_permutes = false;
};

// Where the accumulators of one tile or line go: rows of up to `columns` neighbouring channels.
struct Output {
  void* y = nullptr;                  // row 0, u8 or f32
  int64_t y_row = 0;                  // elements between rows
  const uint8_t* residual = nullptr;  // or null
  int64_t residual_row = 0;
  const int32_t* row_bias = nullptr;  // added to all accumulators of a row, modulo 2^32; or null
  const float* multiplier = nullptr;
  int64_t columns = 0;
  const Epilogue* epilogue = nullptr;
};

inline Epilogue make_epilogue(const Problem& problem) noexcept {
  const ConvQuant& q = problem.quant;
  Epilogue e;
  e.bounded = problem.bound < 0x1p30;
  e.zero_point = q.zero_point;
  e.lo = q.lo;
  e.hi = q.hi;
  e.f32_output = q.f32_output;
  e.f32_lo = q.f32_lo;
  e.f32_hi = q.f32_hi;
  e.residual_zero_point = q.residual_zero_point;
  e.residual_multiplier = q.residual_multiplier;
  e.byte_permutes = problem.byte_permutes;
  if (!problem.lut.empty()) {
    e.lut = problem.lut.data();
    e.lut_pairs = problem.lut_pairs.data();
  }
  return e;
}

}  // namespace qfx::conv
