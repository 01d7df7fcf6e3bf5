#pragma once
// The rotation of a block on lanes of a vector (core/lanes.h).
#include <cmath>

#include "core/lanes.h"

namespace qfx::rotation {
namespace {

// Of pairs of lanes that are `apart` lanes apart the sum, in the first, and the difference, in the second.
template <class V>
inline V mixed(V v, int apart) noexcept {
  using Ints = decltype(v < v);
  Ints from{};
  V sign{};
  for (int i = 0; i < kWidth<V>; ++i) {
    from[i] = i ^ apart;
    sign[i] = (i & apart) != 0 ? -1.0f : 1.0f;
  }
  return __builtin_shuffle(v, from) + v * sign;
}

template <class V, int kBlock>
inline void rotate_block(const float* x, float* y) noexcept {
  constexpr int kLanes = kWidth<V>, kVectors = kBlock / kLanes;
  V v[kVectors];
  for (int i = 0; i < kVectors; ++i) {
    v[i] = load<V>(x + i * kLanes);
#pragma GCC unroll 4
    for (int apart = 1; apart < kLanes; apart *= 2) v[i] = mixed(v[i], apart);
  }
  for (int apart = 1; apart < kVectors; apart *= 2)
    for (int i = 0; i < kVectors; ++i) {
      if ((i & apart) != 0) continue;
      const V a = v[i], b = v[i + apart];
      v[i] = a + b;
      v[i + apart] = a - b;
    }
  const float scale = static_cast<float>(1.0 / __builtin_sqrt(double{kBlock}));
  for (int i = 0; i < kVectors; ++i) store(y + i * kLanes, v[i] * scale);
}

template <class V, int kBlock>
inline void rotate_blocks(const float* x, float* y, int64_t blocks) noexcept {
  for (int64_t i = 0; i < blocks; ++i) rotate_block<V, kBlock>(x + i * kBlock, y + i * kBlock);
}

template <class V>
inline void rotate(const float* x, float* y, int64_t blocks, int64_t block) noexcept {
  if (block == 16) rotate_blocks<V, 16>(x, y, blocks);
  if (block == 32) rotate_blocks<V, 32>(x, y, blocks);
  if (block == 64) rotate_blocks<V, 64>(x, y, blocks);
  if (block == 128) rotate_blocks<V, 128>(x, y, blocks);
}

}  // namespace
}  // namespace qfx::rotation
