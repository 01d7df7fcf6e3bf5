#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "pool/windows.h"

namespace qfx {
namespace {

using namespace pool;

// body(first channel of a tap) for every tap of a window.
template <class Body>
void for_each_tap(const float* x, const Window& w, Body&& body) noexcept {
  for (int64_t d = 0; d < w.taps[0]; ++d)
    for (int64_t h = 0; h < w.taps[1]; ++h)
      for (int64_t i = 0; i < w.taps[2]; ++i) body(x + d * w.stride[0] + h * w.stride[1] + i * w.stride[2]);
}

class FloatPoolWork : public Work {
 public:
  explicit FloatPoolWork(Windows windows) : windows_(std::move(windows)) {}

  int64_t cost() const noexcept override {
    return 4 * windows_.pixels() * windows_.geometry.channels * (windows_.longest() + 1);
  }

 protected:
  Windows windows_;
};

class FloatMaxWork final : public FloatPoolWork {
 public:
  using FloatPoolWork::FloatPoolWork;

  void run(const void* const* in, void* const* out, std::byte*, int tid, int threads) const noexcept override {
    for_each_window(windows_, static_cast<const float*>(in[0]), static_cast<float*>(out[0]), tid, threads,
                    [&](const float* x, const Window& window, int64_t, float* y, int64_t channels) {
                      for (int64_t c = 0; c < channels; ++c) y[c] = -std::numeric_limits<float>::infinity();
                      for_each_tap(x, window, [&](const float* tap) {
                        for (int64_t c = 0; c < channels; ++c)
                          y[c] = tap[c] > y[c] || std::isnan(tap[c]) ? tap[c] : y[c];
                      });
                    });
  }
  std::string details() const override { return "max_f32"; }
};

enum class Count { padded, inside, divisor };

class FloatAverageWork final : public FloatPoolWork {
 public:
  FloatAverageWork(Windows windows, Count count, int64_t divisor)
      : FloatPoolWork(std::move(windows)), count_(count), divisor_(divisor) {}

  void run(const void* const* in, void* const* out, std::byte*, int tid, int threads) const noexcept override {
    for_each_window(windows_, static_cast<const float*>(in[0]), static_cast<float*>(out[0]), tid, threads,
                    [&](const float* x, const Window& window, int64_t padded, float* y, int64_t channels) {
                      const int64_t taps = window.taps[0] * window.taps[1] * window.taps[2];
                      // An empty window has sum 0, whatever it is divided by.
                      const auto count = static_cast<double>(taps == 0 ? 1 : count_of(taps, padded));
                      for (int64_t c = 0; c < channels; c += kChannelBlock)
                        average(x + c, window, std::min(channels - c, kChannelBlock), count, y + c);
                    });
  }
  std::string details() const override { return "average_f32"; }

 private:
  static void average(const float* x, const Window& window, int64_t channels, double count, float* y) noexcept {
    double sums[kChannelBlock] = {};
    for_each_tap(x, window, [&](const float* tap) {
      for (int64_t c = 0; c < channels; ++c) sums[c] += static_cast<double>(tap[c]);
    });
    for (int64_t c = 0; c < channels; ++c) y[c] = static_cast<float>(sums[c] / count);
  }

  int64_t count_of(int64_t taps, int64_t padded) const noexcept {
    return count_ == Count::divisor ? divisor_ : (count_ == Count::padded ? padded : taps);
  }

  Count count_;
  int64_t divisor_;
};

Windows rows(int64_t outer, int64_t reduced, int64_t inner) {
  if (outer < 0 || reduced < 0 || inner < 0) throw std::invalid_argument("a negative dimension");
  PoolGeometry geometry;
  geometry.n = outer;
  geometry.channels = inner;
  geometry.in[2] = reduced;
  Windows windows{geometry, {}};
  windows.axis[0] = windows.axis[1] = {{0, 1, 1}};
  windows.axis[2] = {{0, reduced, reduced}};
  return windows;
}

}  // namespace

std::unique_ptr<Work> plan_max_pool_f32(const PoolGeometry& geometry) {
  return std::make_unique<FloatMaxWork>(sliding_windows(geometry));
}

std::unique_ptr<Work> plan_adaptive_max_pool_f32(const PoolGeometry& geometry) {
  return std::make_unique<FloatMaxWork>(adaptive_windows(geometry));
}

std::unique_ptr<Work> plan_avg_pool_f32(const PoolGeometry& geometry, bool count_include_pad, int64_t divisor) {
  if (divisor < 0) throw std::invalid_argument("a negative divisor");
  const Count count = divisor > 0 ? Count::divisor : (count_include_pad ? Count::padded : Count::inside);
  return std::make_unique<FloatAverageWork>(sliding_windows(geometry), count, divisor);
}

std::unique_ptr<Work> plan_adaptive_avg_pool_f32(const PoolGeometry& geometry) {
  return std::make_unique<FloatAverageWork>(adaptive_windows(geometry), Count::inside, 0);
}

std::unique_ptr<Work> plan_reduce_f32(Reduction reduction, int64_t outer, int64_t reduced, int64_t inner) {
  Windows windows = rows(outer, reduced, inner);
  if (reduction == Reduction::max) return std::make_unique<FloatMaxWork>(std::move(windows));
  const Count count = reduction == Reduction::sum ? Count::divisor : Count::inside;
  return std::make_unique<FloatAverageWork>(std::move(windows), count, 1);
}

}  // namespace qfx
