#pragma once
#include <cstdint>
#include <type_traits>

#include "core/kernel.h"

namespace qfx::recurrent {

constexpr int64_t kLanes = 16;   // outputs of a vector
constexpr int64_t kVectors = 4;  // vectors of a panel at most: one for each gate of an lstm

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

#define QFX_KERNEL_LIST "recurrent/kernels.inc"
#include "core/family.h"

}  // namespace qfx::recurrent
