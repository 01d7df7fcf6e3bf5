#pragma once
#include <cstddef>
#include <cstdint>

#include "core/isa.h"

namespace qfx::gemm {

constexpr int64_t kHalfLanes = 16;   // columns of a vector
constexpr int64_t kHalfVectors = 4;  // of a panel at most

// How weights are stored that become float32 in registers.
enum class Stored { f16, bf16, s8, s4 };

// Weights of `vectors` * kHalfLanes columns: [step][vector][kHalfLanes]; s4: [half the steps][vector][kHalfLanes]
// bytes, an even step in the low half, each code 8 more than it is. Of s8 and s4 the weight of a step is float(code -
// zero point) * scale, with scales and zero points of a group of steps: [group][vector][kHalfLanes].
struct InOrderPanel {
  const std::byte* weight = nullptr;
  int64_t steps = 0;
  int vectors = 0;
  const float* bias = nullptr;
  int64_t group = 0;  // steps of a group; all where there are none
  const std::byte* scale = nullptr;
  bool half_scale = false;             // f16; else f32
  const int8_t* zero_point = nullptr;  // of the codes as they are stored; null: `origin` in all groups
  int origin = 0;
};

// y[row * y_row + o] = ((0 + x[0] * w[0]) + x[1] * w[1]) + ... + bias[o] in float32
using InOrderFn = void(const InOrderPanel& panel, const float* x, int64_t x_row, int64_t rows, float* y,
                       int64_t y_row) noexcept;

struct InOrderKernel {
  const char* name;
  Isa isa;
  Stored stored;
  InOrderFn* run;
};

// The kernel for a level.
const InOrderKernel& in_order_kernel(Stored stored, Isa isa) noexcept;

#define QFX_GEMM_IN_ORDER(name, isa, stored) InOrderFn name;
#include "gemm/kernels.inc"

// Defines a kernel of the list by the function template in_order of its file.
#define QFX_DEFINE_IN_ORDER(name, stored)                                                     \
  void name(const InOrderPanel& panel, const float* x, int64_t x_row, int64_t rows, float* y, \
            int64_t y_row) noexcept {                                                         \
    in_order<Stored::stored>(panel, x, x_row, rows, y, y_row);                                \
  }

}  // namespace qfx::gemm
