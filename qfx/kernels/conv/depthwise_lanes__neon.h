#pragma once
// Depthwise lines eight lanes at a time, for the files of the ARM levels only.
#include "conv/depthwise.h"
#include "gemm/finish__neon.h"

namespace qfx::conv {
namespace {

using namespace gemm;

inline void interleave(const InterleaveLine& line) noexcept {
  const uint8_t *p0 = line.lines[0], *p1 = line.lines[1], *p2 = line.lines[2], *p3 = line.lines[3];
  auto* to = reinterpret_cast<uint8_t*>(line.to);
  for (int64_t i = line.count; i > 0; --i, to += 128) {
    vst4q_u8(to, {{vld1q_u8(p0), vld1q_u8(p1), vld1q_u8(p2), vld1q_u8(p3)}});
    if (line.lanes > 16) {
      vst4q_u8(to + 64, {{vld1q_u8(p0 + 16), vld1q_u8(p1 + 16), vld1q_u8(p2 + 16), vld1q_u8(p3 + 16)}});
    }
    p0 += line.steps[0], p1 += line.steps[1], p2 += line.steps[2], p3 += line.steps[3];
  }
}

// A level's Data and Weights are made from the [8][4] bytes of eight lanes; add(acc, data, weights) sums four taps, and
// initial(line, which, lane) is where the sums of an output line start.
template <class Level, int P>
inline void outputs(const DepthwiseLine& line, int64_t which, int64_t lane, int64_t at, const Eight& initial) noexcept {
  Eight c[P];
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p) c[p] = initial;
  const std::byte* w = line.weights + which * 128 + lane * 4;
  for (int64_t group = 0; group < line.groups; ++group) {
    const std::byte* d = line.data + group * line.group_step + at * line.pixel_step + lane * 4;
    for (int64_t tap = line.column_taps; tap > 0; --tap, d += line.tap_step, w += 128 * line.lines) {
      const typename Level::Weights weights(w);
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p) Level::add(c[p], typename Level::Data(d + p * line.pixel_step), weights);
    }
  }
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p) finish_eight(line.out[which], at + p, lane, c[p]);
}

template <class Level>
void depthwise(const DepthwiseLine& line) noexcept {
  for (int64_t which = 0; which < line.lines; ++which) {
    if (line.out[which].y == nullptr) continue;
    for (int64_t lane = 0; lane < line.out[which].columns; lane += 8) {
      const Eight initial = Level::initial(line, which, lane);
      int64_t at = 0;
      for (; at + 4 <= line.count; at += 4) outputs<Level, 4>(line, which, lane, at, initial);
      for (; at < line.count; ++at) outputs<Level, 1>(line, which, lane, at, initial);
    }
  }
}

}  // namespace
}  // namespace qfx::conv
