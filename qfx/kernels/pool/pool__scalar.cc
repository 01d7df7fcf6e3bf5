#include <algorithm>
#include <cmath>

#include "core/requant.h"
#include "pool/kernels.h"

namespace qfx::pool {
namespace {

constexpr int64_t kBlock = 256;  // channels whose sums are kept on the stack

template <class Tap>
void for_each_tap(const uint8_t* x, const Window& w, Tap&& tap) noexcept {
  for (int64_t i = 0; i < w.taps[0]; ++i)
    for (int64_t j = 0; j < w.taps[1]; ++j)
      for (int64_t k = 0; k < w.taps[2]; ++k) tap(x + i * w.stride[0] + j * w.stride[1] + k * w.stride[2]);
}

template <class T>
T lerp(T a, T b, T t) noexcept {
  return a * (T{1} - t) + b * t;
}

template <class T>
void linear(const Corners& corners, int64_t channels, int32_t zero_point, uint8_t* y) noexcept {
  const T t0 = static_cast<T>(corners.weight[0]);
  const T t1 = static_cast<T>(corners.weight[1]);
  const T t2 = static_cast<T>(corners.weight[2]);
  for (int64_t c = 0; c < channels; ++c) {
    T plane[2];
    for (int d = 0; d < 2; ++d) {
      T row[2];
      for (int h = 0; h < 2; ++h)
        row[h] = lerp(static_cast<T>(corners.at[d][h][0][c] - zero_point),
                      static_cast<T>(corners.at[d][h][1][c] - zero_point), t2);
      plane[d] = lerp(row[0], row[1], t1);
    }
    const int32_t q = static_cast<int32_t>(std::nearbyint(lerp(plane[0], plane[1], t0))) + zero_point;
    y[c] = static_cast<uint8_t>(std::clamp(q, 0, 255));
  }
}

}  // namespace

void max_window_u8__scalar(const uint8_t* x, const Window& window, int64_t channels, uint8_t* y) noexcept {
  for (int64_t c = 0; c < channels; ++c) y[c] = 0;
  for_each_tap(x, window, [&](const uint8_t* tap) {
    for (int64_t c = 0; c < channels; ++c) y[c] = std::max(y[c], tap[c]);
  });
}

void average_window_u8__scalar(const uint8_t* x, const Window& window, int64_t channels, const Average& average,
                               uint8_t* y) noexcept {
  for (int64_t first = 0; first < channels; first += kBlock) {
    const int64_t n = std::min(kBlock, channels - first);
    int64_t sum[kBlock] = {};
    for_each_tap(x + first, window, [&](const uint8_t* tap) {
      for (int64_t c = 0; c < n; ++c) sum[c] += tap[c];
    });
    for (int64_t c = 0; c < n; ++c)
      y[first + c] =
          requantize(static_cast<float>(sum[c] - average.offset) * average.multiplier, average.zero_point, 0, 255);
  }
}

int64_t sum_u8__scalar(const uint8_t* x, int64_t n) noexcept {
  int64_t sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += x[i];
  return sum;
}

void linear_u8__scalar(const Corners& corners, int64_t channels, int32_t zero_point, uint8_t* y) noexcept {
  linear<double>(corners, channels, zero_point, y);
}

void linear_exact_u8__scalar(const Corners& corners, int64_t channels, int32_t zero_point, uint8_t* y) noexcept {
  linear<float>(corners, channels, zero_point, y);
}

}  // namespace qfx::pool
