#include <cmath>
#include <stdexcept>

#include "core/requant.h"
#include "pool/windows.h"

namespace qfx {
namespace {

using namespace pool;

void check(const AvgQuant& q) {
  if (q.x_zero_point < 0 || q.x_zero_point > 255 || q.zero_point < 0 || q.zero_point > 255)
    throw std::invalid_argument("a zero point outside 0..255");
  if (!(q.ratio > 0.0 && q.ratio < 1e30))
    throw std::invalid_argument("a ratio of scales that is not positive and finite");
}

float multiplier(const AvgQuant& q, int64_t count) noexcept {
  return static_cast<float>(q.ratio / static_cast<double>(count));
}

enum class Count { padded, inside, divisor };

class AvgPoolWork final : public Work {
 public:
  AvgPoolWork(Windows windows, const AvgQuant& quant, Count count, int64_t divisor, Isa isa)
      : windows_(std::move(windows)),
        quant_(quant),
        count_(count),
        divisor_(divisor),
        kernel_(select<AverageWindow>(windows_.longest() > kTapsMax ? Isa::scalar : isa)) {}

  void run(const void* const* in, void* const* out, std::byte*, int tid, int threads) const noexcept override {
    // An empty window has sum 0, whatever it is divided by.
    int64_t count = 1;
    Average average{0, multiplier(quant_, count), quant_.zero_point};
    for_each_window(windows_, static_cast<const uint8_t*>(in[0]), static_cast<uint8_t*>(out[0]), tid, threads,
                    [&](const uint8_t* x, const Window& window, int64_t padded, uint8_t* y, int64_t channels) {
                      const int64_t taps = window.taps[0] * window.taps[1] * window.taps[2];
                      const int64_t wanted = count_of(taps, padded);
                      if (wanted != count && wanted > 0) average.multiplier = multiplier(quant_, count = wanted);
                      average.offset = taps * quant_.x_zero_point;
                      kernel_.run(x, window, channels, average, y);
                    });
  }

  int64_t cost() const noexcept override {
    return windows_.pixels() * windows_.geometry.channels * (windows_.longest() + 1);
  }
  std::vector<const char*> kernels() const override { return {kernel_.name}; }

 private:
  int64_t count_of(int64_t taps, int64_t padded) const noexcept {
    return count_ == Count::divisor ? divisor_ : (count_ == Count::padded ? padded : taps);
  }

  Windows windows_;
  AvgQuant quant_;
  Count count_;
  int64_t divisor_;
  Kernel<AverageWindow> kernel_;
};

// The mean of dense rows.
class RowMeanWork final : public Work {
 public:
  RowMeanWork(int64_t rows, int64_t n, const AvgQuant& quant, Isa isa)
      : rows_(rows), n_(n), quant_(quant), kernel_(select<Sum>(isa)) {}

  void run(const void* const* in, void* const* out, std::byte*, int tid, int threads) const noexcept override {
    const auto* x = static_cast<const uint8_t*>(in[0]);
    auto* y = static_cast<uint8_t*>(out[0]);
    const float m = multiplier(quant_, n_ > 0 ? n_ : 1);
    const Range part = split(rows_, tid, threads);
    for (int64_t i = part.begin; i < part.end; ++i) {
      const int64_t sum = kernel_.run(x + i * n_, n_) - n_ * quant_.x_zero_point;
      y[i] = requantize(static_cast<float>(sum) * m, quant_.zero_point, 0, 255);
    }
  }

  int64_t cost() const noexcept override { return rows_ * (n_ + 1); }
  std::vector<const char*> kernels() const override { return {kernel_.name}; }

 private:
  int64_t rows_, n_;
  AvgQuant quant_;
  Kernel<Sum> kernel_;
};

}  // namespace

std::unique_ptr<Work> plan_avg_pool(const PoolGeometry& geometry, const AvgQuant& quant, bool count_include_pad,
                                    int64_t divisor, Isa isa) {
  check(quant);
  if (divisor < 0) throw std::invalid_argument("a negative divisor");
  const Count count = divisor > 0 ? Count::divisor : (count_include_pad ? Count::padded : Count::inside);
  return std::make_unique<AvgPoolWork>(sliding_windows(geometry), quant, count, divisor, isa);
}

std::unique_ptr<Work> plan_adaptive_avg_pool(const PoolGeometry& geometry, const AvgQuant& quant, Isa isa) {
  check(quant);
  return std::make_unique<AvgPoolWork>(adaptive_windows(geometry), quant, Count::inside, 0, isa);
}

std::unique_ptr<Work> plan_mean(int64_t outer, int64_t reduced, int64_t inner, const AvgQuant& quant, Isa isa) {
  check(quant);
  if (outer < 0 || reduced < 0 || inner < 0) throw std::invalid_argument("a negative dimension");
  if (inner == 1) return std::make_unique<RowMeanWork>(outer, reduced, quant, isa);
  PoolGeometry geometry;
  geometry.n = outer;
  geometry.channels = inner;
  geometry.in[2] = reduced;
  Windows windows{geometry, {}};
  windows.axis[0] = windows.axis[1] = {{0, 1, 1}};
  windows.axis[2] = {{0, reduced, reduced}};
  return std::make_unique<AvgPoolWork>(std::move(windows), quant, Count::inside, 0, isa);
}

}  // namespace qfx
