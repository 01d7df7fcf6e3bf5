#pragma once
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "core/kernel.h"

namespace qfx::recurrent {

constexpr int64_t kLanes = 16;          // outputs of a vector
constexpr int64_t kVectors = 4;         // vectors of a panel at most: one for each gate of an lstm
constexpr int64_t kDepth = 4;           // features that a step takes of int8 weights; 1 of float16
constexpr int64_t kFeatures = 1 << 15;  // at most: sums of 255 * 255 stay below 2^31

// Packed weights of `vectors` * kLanes outputs: [step][vector][kLanes][kDepth] int8 or [step][vector][kLanes] float16.
// Everything else: one entry an output.
struct Panel {
  const std::byte* weight = nullptr;
  int64_t steps = 0;
  int vectors = 0;
  const float* scale = nullptr;         // int8
  const int32_t* sum = nullptr;         // int8: of w - zero_point over the features
  const int32_t* zero_point = nullptr;  // int8; null: all 0
  const float* bias = nullptr;
};

// Quantized rows: x[row * stride + i], readable up to a multiple of kDepth, with zeros for what is past the end.
struct Codes {
  const uint8_t* x = nullptr;
  int64_t stride = 0;
  float scale = 1.0f;
  int32_t zero_point = 0;
  const int32_t* sum = nullptr;  // of each row; read only for panels with zero points
};

// y[row * y_stride + o] = float(sum over i of (x - x_zero_point) * (w - zero_point[o])) * (x_scale * scale[o]) +
// bias[o]
struct Product {
  using Fn = void(const Panel& panel, const Codes& codes, int64_t rows, float* y, int64_t y_stride) noexcept;
};

// y[row * y_stride + o] = ((0 + x[0] * w[0]) + x[1] * w[1]) + ... + bias[o] in float32
struct HalfProduct {
  using Fn = void(const Panel& panel, const float* x, int64_t x_stride, int64_t rows, float* y,
                  int64_t y_stride) noexcept;
};

// One time step of a panel's hidden units, for some rows.
struct CellBlock {
  const float* input;  // [rows][vectors * kLanes], the gates' share of the input with its bias
  int64_t input_stride;
  const float* recurrent;  // the same of the hidden state
  int64_t recurrent_stride;
  float* state;  // lstm: the cell state, updated; gru: the hidden state before
  int64_t state_stride;
  float* y;  // the hidden state after
  int64_t y_stride;
  int64_t rows;
};
// Units of a panel: kLanes for lstm and gru, whose vectors are gates; kVectors * kLanes for the others.
struct Lstm {
  using Fn = void(const CellBlock& block) noexcept;
};
struct Gru {
  using Fn = void(const CellBlock& block) noexcept;
};
struct RnnTanh {
  using Fn = void(const CellBlock& block) noexcept;
};
struct RnnRelu {
  using Fn = void(const CellBlock& block) noexcept;
};

// low = min(low, x), high = max(high, x); both NaN, and then for good, where one of x is an infinity or NaN.
struct Extent {
  using Fn = void(const float* x, int64_t n, float* low, float* high) noexcept;
};

#define QFX_KERNEL_LIST "recurrent/kernels.inc"
#include "core/family.h"

}  // namespace qfx::recurrent
