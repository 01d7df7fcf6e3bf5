#pragma once
#include <cstdint>

namespace qfx {

struct Range {
  int64_t begin;
  int64_t end;
};

// Part `tid` of `threads` equal parts of [0, n), cut at multiples of `grain`.
inline Range split(int64_t n, int tid, int threads, int64_t grain = 1) noexcept {
  const int64_t blocks = (n + grain - 1) / grain;
  const int64_t begin = blocks * tid / threads * grain;
  const int64_t end = blocks * (tid + 1) / threads * grain;
  return {begin < n ? begin : n, end < n ? end : n};
}

}  // namespace qfx
