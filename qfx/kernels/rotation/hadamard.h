#pragma once
// The rotation of a block on lanes of a vector (core/lanes.h).
#include "core/lanes.h"
#include "core/shuffle.h"
#include "elementwise/extent.h"

namespace qfx::rotation {
namespace {

// b + a * sign, where sign is 1 or -1 in each lane: products are exact, so levels may have one operation for both.
template <class V>
inline V signed_sum(V a, V sign, V b) noexcept {
  return b + a * sign;
}

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
  return signed_sum(v, sign, shuffled(v, from));
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

// made(v): each vector of the result.
template <class V, int kBlock, class Made>
inline void rotate_block(const float* x, float* y, Made& made) noexcept {
  constexpr int kLanes = kWidth<V>, kVectors = kBlock / kLanes;
  V v[kVectors];
#pragma GCC unroll 32
  for (int i = 0; i < kVectors; ++i) v[i] = mixed_lanes(load<V>(x + i * kLanes));
  mix_vectors<1>(v);
  const float scale = static_cast<float>(1.0 / __builtin_sqrt(double{kBlock}));
#pragma GCC unroll 32
  for (int i = 0; i < kVectors; ++i) {
    const V rotated = v[i] * scale;
    store(y + i * kLanes, rotated);
    made(rotated);
  }
}

template <class V, int kBlock, class Made>
inline void rotate_blocks(const float* x, float* y, int64_t blocks, Made& made) noexcept {
  for (int64_t i = 0; i < blocks; ++i) rotate_block<V, kBlock>(x + i * kBlock, y + i * kBlock, made);
}

template <class V, class Made>
inline void rotate(const float* x, float* y, int64_t blocks, int64_t block, Made&& made) noexcept {
  if (block == 16) rotate_blocks<V, 16>(x, y, blocks, made);
  if (block == 32) rotate_blocks<V, 32>(x, y, blocks, made);
  if (block == 64) rotate_blocks<V, 64>(x, y, blocks, made);
  if (block == 128) rotate_blocks<V, 128>(x, y, blocks, made);
}

template <class V>
inline void rotate(const float* x, float* y, int64_t blocks, int64_t block) noexcept {
  rotate<V>(x, y, blocks, block, [](V) {});
}

template <class V>
inline void rotate_extent(const float* x, float* y, int64_t blocks, int64_t block, float* low, float* high) noexcept {
  elementwise::Extents<V> extents(*low, *high);
  rotate<V>(x, y, blocks, block, [&](V v) { extents.meet(v); });
  extents.finish(nullptr, 0, low, high);
}

}  // namespace
}  // namespace qfx::rotation
