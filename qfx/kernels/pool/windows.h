#pragma once
#include <cstdint>
#include <vector>

#include "core/nest.h"
#include "pool/kernels.h"
#include "pool/pool.h"

namespace qfx::pool {

// What one output index reads along one axis.
struct AxisWindow {
  int64_t first = 0;   // the first input index inside the input
  int64_t taps = 0;    // how many inside the input, `dilation` apart
  int64_t padded = 0;  // how many inside the padded input
};

// The windows of every axis of a pooling, and the walk over its output pixels.
struct Windows {
  PoolGeometry geometry;
  std::vector<AxisWindow> axis[3];

  int64_t pixels() const noexcept { return geometry.n * geometry.out[0] * geometry.out[1] * geometry.out[2]; }
  int64_t longest() const noexcept;  // the most taps that any output pixel has
};

// Windows of kernel, stride, dilation and padding. Throws std::invalid_argument for impossible numbers.
Windows sliding_windows(const PoolGeometry& geometry);

// Windows [floor(i * in / out), ceil((i + 1) * in / out)).
Windows adaptive_windows(const PoolGeometry& geometry);

constexpr int64_t kChannelBlock = 64;  // threads divide a pixel's channels at multiples of it

// One output pixel after another, without a division for each.
class PixelCursor {
 public:
  PixelCursor(const Windows& w, int64_t pixel) noexcept : windows_(w) {
    const PoolGeometry& g = w.geometry;
    stride_[2] = g.channels;
    stride_[1] = g.in[2] * stride_[2];
    stride_[0] = g.in[1] * stride_[1];
    for (int d = 2; d >= 0; --d) {
      window.stride[d] = g.dilation[d] * stride_[d];
      at_[d] = pixel % g.out[d];
      pixel /= g.out[d];
    }
    image_ = pixel * g.in[0] * stride_[0];
    for (int d = 0; d < 3; ++d) enter(d);
  }

  void advance() noexcept {
    const PoolGeometry& g = windows_.geometry;
    for (int d = 2; d >= 0; --d) {
      if (++at_[d] < g.out[d]) return enter(d);
      at_[d] = 0;
      enter(d);
    }
    image_ += g.in[0] * stride_[0];
  }

  int64_t offset() const noexcept { return image_ + first_[0] + first_[1] + first_[2]; }
  int64_t padded() const noexcept { return padded_[0] * padded_[1] * padded_[2]; }

  Window window;

 private:
  void enter(int d) noexcept {
    const AxisWindow& axis = windows_.axis[d][static_cast<size_t>(at_[d])];
    window.taps[d] = axis.taps;
    first_[d] = axis.first * stride_[d];
    padded_[d] = axis.padded;
  }

  const Windows& windows_;
  int64_t stride_[3], at_[3], first_[3], padded_[3], image_;
};

// body(first element of the window, window, padded taps, y, channels) for the part of one thread.
template <class T, class Body>
void for_each_window(const Windows& w, const T* x, T* y, int tid, int threads, Body&& body) noexcept {
  const int64_t channels = w.geometry.channels, blocks = (channels + kChannelBlock - 1) / kChannelBlock;
  const Range part = split(w.pixels() * blocks, tid, threads);
  if (part.begin >= part.end) return;
  int64_t current = part.begin / blocks;
  PixelCursor cursor(w, current);
  for_each_row(part, blocks, [&](int64_t pixel, int64_t block, int64_t n) {
    if (pixel != current) cursor.advance();
    current = pixel;
    const int64_t first = block * kChannelBlock, end = (block + n) * kChannelBlock;
    body(x + cursor.offset() + first, cursor.window, cursor.padded(), y + pixel * channels + first,
         (end < channels ? end : channels) - first);
  });
}

}  // namespace qfx::pool
