#include "pool/windows.h"

#include <algorithm>
#include <stdexcept>

namespace qfx::pool {
namespace {

void check_sizes(const PoolGeometry& g) {
  if (g.n < 0 || g.channels < 0) throw std::invalid_argument("a negative dimension");
  for (int d = 0; d < 3; ++d) {
    if (g.in[d] < 0 || g.out[d] < 0) throw std::invalid_argument("a negative dimension");
    if (g.kernel[d] < 1 || g.stride[d] < 1 || g.dilation[d] < 1)
      throw std::invalid_argument("a pooling kernel, stride or dilation below 1");
    if (g.pad_lo[d] < 0 || g.pad_hi[d] < 0) throw std::invalid_argument("negative padding of a pooling");
  }
}

AxisWindow sliding(const PoolGeometry& g, int d, int64_t i) {
  const int64_t start = i * g.stride[d] - g.pad_lo[d], step = g.dilation[d];
  const int64_t skipped = start < 0 ? ceil_div(-start, step) : 0;
  const auto taps_below = [&](int64_t end) {
    return std::min(g.kernel[d], end > start ? ceil_div(end - start, step) : 0);
  };
  const int64_t inside = std::max<int64_t>(taps_below(g.in[d]) - skipped, 0);
  return {inside == 0 ? 0 : start + skipped * step, inside, taps_below(g.in[d] + g.pad_hi[d])};
}

}  // namespace

int64_t Windows::longest() const noexcept {
  int64_t taps = 1;
  for (const auto& windows : axis) {
    int64_t most = 0;
    for (const AxisWindow& w : windows) most = std::max(most, w.taps);
    taps *= most;
  }
  return taps;
}

Windows sliding_windows(const PoolGeometry& geometry) {
  check_sizes(geometry);
  Windows windows{geometry, {}};
  for (int d = 0; d < 3; ++d)
    for (int64_t i = 0; i < geometry.out[d]; ++i) windows.axis[d].push_back(sliding(geometry, d, i));
  return windows;
}

Windows adaptive_windows(const PoolGeometry& geometry) {
  check_sizes(geometry);
  Windows windows{geometry, {}};
  for (int d = 0; d < 3; ++d) {
    windows.geometry.dilation[d] = 1;
    const int64_t in = geometry.in[d], out = geometry.out[d];
    if (in == 0 && out != 0) throw std::invalid_argument("adaptive pooling of an empty dimension");
    for (int64_t i = 0; i < out; ++i) {
      const int64_t first = i * in / out, taps = ceil_div((i + 1) * in, out) - first;
      windows.axis[d].push_back({first, taps, taps});
    }
  }
  return windows;
}

}  // namespace qfx::pool
