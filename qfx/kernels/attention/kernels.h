#pragma once
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "core/kernel.h"

namespace qfx::attention {

constexpr int64_t kBlock = 32;           // keys that are taken against one maximum
constexpr int64_t kPieceQueries = 16;    // a multiple of every kernel's lanes
constexpr int64_t kMostDepth = 32768;    // sums of more products of codes could leave s32
constexpr float kFlatBelow = -0x1p100f;  // rows whose greatest score is below it take their greatest keys alike
constexpr float kSeenAbove = -0x1p60f;   // what is added to a score by a mask that does not hide the key

enum class MaskType { none, additive, visible };  // f32, bool

struct Mask {
  MaskType type = MaskType::none;
  const void* at = nullptr;
  int64_t row = 0, column = 0;  // between neighbours; 0 where it broadcasts
};

// Some queries of one head. Rows are `*_row` elements apart.
struct Piece {
  const float* q = nullptr;
  const float* k = nullptr;
  const float* v = nullptr;
  float* out = nullptr;
  int64_t q_row = 0, k_row = 0, v_row = 0, out_row = 0;
  Mask mask;
  float factor = 1.0f;
  bool causal = false;
  int64_t keys = 0, depth = 0, width = 0;
  int64_t begin = 0, end = 0;  // queries
  // What the scratch does not hold yet from the piece before.
  bool new_keys = true, new_mask = true;
  std::byte* scratch = nullptr;
};

// Computes a piece, as attention.h defines it. Without scratch: computes nothing. Returns the bytes of scratch that any
// piece of this shape needs.
struct Attend {
  using Fn = int64_t(const Piece& piece) noexcept;
};

#define QFX_KERNEL_LIST "attention/kernels.inc"
#include "core/family.h"

}  // namespace qfx::attention
