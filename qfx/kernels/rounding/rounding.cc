#include "rounding/rounding.h"

#include <algorithm>
#include <cmath>

namespace qfx::rounding {
namespace {

constexpr int64_t kRowsAtOnce = 8;  // that share one pass over the moments, whose rows then stay in L1

void add_scaled(float* y, const float* x, float factor, int64_t n) noexcept {
  for (int64_t i = 0; i < n; ++i) y[i] += factor * x[i];
}

// Rows of one group.
struct Rows {
  const float* target;
  int8_t* codes;
  float* gradient;  // of half the objective by -q: H (target - q)
  int64_t count;
};

void start(const Problem& p, const float* moments, const Rows& rows) noexcept {
  std::fill_n(rows.gradient, rows.count * p.length, 0.0f);
  for (int64_t i = 0; i < p.length; ++i) {
    for (int64_t r = 0; r < rows.count; ++r) {
      const int64_t at = r * p.length + i;
      const float error = rows.target[at] - static_cast<float>(rows.codes[at]);
      if (error != 0.0f) add_scaled(rows.gradient + r * p.length, moments + i * p.length, error, p.length);
    }
  }
}

// Each weight in turn moves to its best integer while the others stay. Returns whether any moved.
bool sweep(const Problem& p, const float* moments, const Rows& rows) noexcept {
  bool moved = false;
  for (int64_t i = 0; i < p.length; ++i) {
    const float* h = moments + i * p.length;
    for (int64_t r = 0; r < rows.count; ++r) {
      const int64_t at = r * p.length + i;
      const float best = static_cast<float>(rows.codes[at]) + std::nearbyint(rows.gradient[at] / h[i]);
      const auto code = static_cast<int>(std::clamp(best, static_cast<float>(p.lo), static_cast<float>(p.hi)));
      const int step = code - rows.codes[at];
      if (step == 0) continue;
      rows.codes[at] = static_cast<int8_t>(code);
      add_scaled(rows.gradient + r * p.length, h, -static_cast<float>(step), p.length);
      moved = true;
    }
  }
  return moved;
}

}  // namespace

int64_t scratch_floats(const Problem& p) noexcept {
  return kRowsAtOnce * p.length;
}

void descend(const Problem& p, int8_t* codes, int64_t first, int64_t last, float* scratch) noexcept {
  while (first < last) {
    const int64_t group = first / p.rows;
    const int64_t count = std::min({kRowsAtOnce, last - first, (group + 1) * p.rows - first});
    const float* moments = p.moments + group * p.length * p.length;
    const Rows rows{p.target + first * p.length, codes + first * p.length, scratch, count};
    start(p, moments, rows);
    for (int i = 0; i < p.sweeps && sweep(p, moments, rows); ++i) {
    }
    first += count;
  }
}

}  // namespace qfx::rounding
