#pragma once
// The rotation of a block on lanes of a vector (core/lanes.h).
#include "core/lanes.h"

namespace qfx::rotation {
namespace {

// Of pairs of lanes that are kApart lanes apart the sum, in the first, and the difference, in the second.
template <int kApart, class V>
inline V mixed(V v) noexcept {
  using Ints = decltype(v < v);
  Ints from{};
  V sign{};
  for (int i = 0; i < kWidth<V>; ++i) {
    from[i] = i ^ kApart;
    sign[i] = (i & kApart) != 0 ? -1.0f : 1.0f;
  }
  return __builtin_shuffle(v, from) + v * sign;
}

template <class V>
inline V mixed_lanes(V v) noexcept {
  v = mixed<2>(mixed<1>(v));
  if constexpr (kWidth<V> > 4) v = mixed<4>(v);
  if constexpr (kWidth<V> > 8) v = mixed<8>(v);
  return v;
}

template <int kApart, class V, int kVectors>
inline void mix_vectors(V (&v)[kVectors]) noexcept {
  if constexpr (kApart < kVectors) {
#pragma GCC unroll 16
    for (int i = 0; i < kVectors; ++i) {
      if ((i & kApart) != 0) continue;
      const V a = v[i], b = v[i + kApart];
      v[i] = a + b;
      v[i + kApart] = a - b;
    }
    mix_vectors<2 * kApart>(v);
  }
}

template <class V, int kBlock>
inline void rotate_block(const float* x, float* y) noexcept {
  constexpr int kLanes = kWidth<V>, kVectors = kBlock / kLanes;
  V v[kVectors];
#pragma GCC unroll 32
  for (int i = 0; i < kVectors; ++i) v[i] = mixed_lanes(load<V>(x + i * kLanes));
  mix_vectors<1>(v);
  const float scale = static_cast<float>(1.0 / __builtin_sqrt(double{kBlock}));
#pragma GCC unroll 32
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
