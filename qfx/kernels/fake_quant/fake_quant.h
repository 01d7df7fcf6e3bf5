#pragma once
#include <cstdint>
#include <limits>
#include <vector>

#include "core/work.h"
#include "fake_quant/kernels.h"

namespace qfx::fake_quant {

enum class Element { f32, bf16, f16 };

// A dense tensor in memory order, with a grid for each channel.
struct Layout {
  Element element = Element::f32;
  int64_t outer = 1, channels = 1, inner = 0;
  int64_t count() const noexcept { return outer * channels * inner; }
  // One bit a value, the bits of each row of `inner` (where that is 1: of `channels`) starting in a byte of their own.
  int64_t mask_bytes() const noexcept;
  // No more than have enough to do.
  int useful_threads(int threads) const noexcept;
};

struct Integers {
  int32_t lowest = 0, highest = 255;
};

// One a channel each; what training carries along.
struct QParamState {
  float* scale = nullptr;
  int32_t* zero_point = nullptr;
};

// How the minima and maxima of batches become qparams, as qfx.quantization.observer.
struct Statistics {
  float* low = nullptr;  // one a channel; low > high: nothing seen
  float* high = nullptr;
  bool average = false;  // v += constant * (new - v); else the running minimum and maximum
  float constant = 0.01f;
  bool symmetric = false;
  int32_t middle = 0;  // the zero point of symmetric schemes
  float eps = 0.0f;
};

// Minimum and maximum of each channel; NaN where a value is none. For one team, once.
class Scan {
 public:
  Scan(const Layout& layout, Isa isa, int threads);
  void run(const void* x, int tid, int threads) noexcept;
  // After all threads have run; low and high: one a channel. Returns whether all are finite.
  bool result(int threads, float* low, float* high) const noexcept;

 private:
  Layout layout_;
  int64_t padded_;
  std::vector<float> extremes_;  // [threads][low, high][padded channels]
  std::vector<char> numbers_;    // [threads]
  Isa isa_;
};

enum class Outcome : int { all_passed, some_blocked, not_finite };

// y = fake-quantized x; before that, where there are statistics, they take x in and give the qparams. For one team,
// once.
class Forward {
 public:
  // statistics: null for the qparams as they are. extremes [2][channels]: those of x, if known, else null.
  Forward(const Layout& layout, const Integers& integers, const Gate& gate, const QParamState& state,
          const Statistics* statistics, const float* extremes, Isa isa, int threads);
  // y: null to update the statistics only; may be x. passed: null, or mask_bytes() bytes.
  void run(const void* x, void* y, uint8_t* passed, int tid, int threads, Meeting& meeting) noexcept;
  Outcome outcome() const noexcept;

 private:
  void update(int threads) noexcept;
  void make_grids() noexcept;

  Layout layout_;
  Integers integers_;
  Gate gate_;
  QParamState state_;
  const Statistics* statistics_;
  const float* extremes_;
  Isa isa_;
  Scan scan_;
  std::vector<float> low_, high_;
  std::vector<float> floats_;  // the grids
  std::vector<double> doubles_;
  Grids grids_;
  bool finite_ = true;
  std::vector<char> all_;  // [threads]
};

// gx = g where the bit is set, else 0. For one team, once; gx may be g, and then only blocked values are written.
class Backward {
 public:
  Backward(const Layout& layout, Isa isa) : layout_(layout), isa_(isa) {}
  void run(const void* g, const uint8_t* passed, void* gx, int tid, int threads) const noexcept;

 private:
  Layout layout_;
  Isa isa_;
};

// gx, and the sums that the gradients of scale and zero point are made of. The same for any number of threads.
class LearnBackward {
 public:
  LearnBackward(const Layout& layout, const Integers& integers, const Gate& gate, const QParamState& state, Isa isa);
  void run(const void* x, const void* g, void* gx, int tid, int threads) noexcept;
  // After all threads have run: [3][channels], see kernels.h.
  void result(double* sums) const noexcept;

 private:
  Layout layout_;
  Gate gate_;
  Isa isa_;
  int64_t padded_, parts_;
  std::vector<float> floats_;
  std::vector<double> doubles_, sums_;
  Grids grids_;
};

}  // namespace qfx::fake_quant
