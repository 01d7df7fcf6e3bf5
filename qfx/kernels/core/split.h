#pragma once
#include <cstdint>

namespace qfx {

constexpr int64_t ceil_div(int64_t a, int64_t b) noexcept {
  return (a + b - 1) / b;
}

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

// The largest part of split(n, tid, threads) as a share of n; 1 for nothing.
inline double slowest_share(int64_t n, int threads) noexcept {
  const int64_t largest = (n + threads - 1) / threads;
  return n == 0 ? 1.0 : static_cast<double>(largest) / static_cast<double>(n);
}

// Splitting rows keeps a thread on the data that it has just written; another split has to be this much better.
constexpr double kClearlyLess = 0.9;

}  // namespace qfx
