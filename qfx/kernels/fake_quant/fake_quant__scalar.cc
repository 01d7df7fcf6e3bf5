#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "fake_quant/kernels.h"

namespace qfx::fake_quant {
namespace {

struct Rounded {
  float value;
  bool low, high, passed;
};

// Operand order: a NaN passes every clamp.
template <class T>
T clamped(T v, T lo, T hi) noexcept {
  v = v < lo ? lo : v;
  return hi < v ? hi : v;
}

Rounded rounded(float x, const Grid& grid, const Gate& gate, double* whole = nullptr) noexcept {
  const double v = clamped(x, gate.lo, gate.hi);
  const double k = std::nearbyint(v / static_cast<double>(grid.scale));
  if (whole != nullptr) *whole = k;
  const bool low = x <= gate.lo || k < static_cast<double>(grid.lowest);
  const bool high = x >= gate.hi || k > static_cast<double>(grid.highest);
  const auto kept = static_cast<float>(clamped(k, static_cast<double>(grid.lowest), static_cast<double>(grid.highest)));
  return {kept * grid.scale + 0.0f, low, high, !low && !high && !std::isnan(k)};
}

Grid grid_of(const Grids& g, int64_t i) noexcept {
  return {g.scale[i], g.reciprocal[i], g.reciprocal64[i], g.lowest[i], g.highest[i]};
}

template <class GridOf>
bool quantize(const float* x, float* y, uint8_t* passed, int64_t n, const Gate& gate, const GridOf& grid) noexcept {
  bool all = true;
  for (int64_t i = 0; i < n; i += 8) {
    unsigned bits = 0;
    for (int64_t j = i; j < std::min(i + 8, n); ++j) {
      const Rounded r = rounded(x[j], grid(j), gate);
      y[j] = r.value;
      bits |= static_cast<unsigned>(r.passed) << (j - i);
      all = all && r.passed;
    }
    if (passed != nullptr) passed[i / 8] = static_cast<uint8_t>(bits);
  }
  return all;
}

template <class GridOf, class Lane>
void learn(const float* x, const float* g, float* gx, int64_t n, const Gate& gate, double* sums, int64_t stride,
           const GridOf& grid, const Lane& lane) noexcept {
  for (int64_t i = 0; i < n; ++i) {
    double whole;
    const Rounded r = rounded(x[i], grid(i), gate, &whole);
    const double steps = static_cast<double>(clamped(x[i], gate.lo, gate.hi)) * grid(i).reciprocal64;
    double* const sum = sums + lane(i);
    if (r.passed) sum[0] += static_cast<double>(g[i]) * static_cast<double>(static_cast<float>(whole - steps));
    if (r.low) sum[stride] += static_cast<double>(g[i]);
    if (r.high) sum[2 * stride] += static_cast<double>(g[i]);
    gx[i] = r.passed ? g[i] : 0.0f;
  }
}

template <class T>
void mask(const T* g, const uint8_t* passed, T* y, int64_t n) noexcept {
  for (int64_t i = 0; i < n; ++i) y[i] = (passed[i / 8] >> (i % 8) & 1) != 0 ? g[i] : T{0};
}

float float_of_half(uint16_t half) noexcept {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16, magnitude = half & 0x7fffu;
  if (magnitude > 0x7c00) return std::bit_cast<float>(sign | 0x7fc00000u | (magnitude & 0x3ffu) << 13);
  if (magnitude == 0x7c00) return std::bit_cast<float>(sign | 0x7f800000u);
  if (magnitude >= 0x0400) return std::bit_cast<float>(sign | ((magnitude << 13) + 0x38000000u));
  const float value = static_cast<float>(magnitude) * 0x1p-24f;
  return sign != 0 ? -value : value;
}

uint16_t half_of_float(float x) noexcept {
  const uint32_t bits = std::bit_cast<uint32_t>(x), magnitude = bits & 0x7fffffffu;
  const auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000u);
  if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u | (magnitude >> 13 & 0x3ffu));
  if (magnitude >= 0x47800000u) return static_cast<uint16_t>(sign | 0x7c00u);
  // Below the smallest normal half: a multiple of 2^-24, which adding 0.5 brings to the float's last bits.
  if (magnitude < 0x38800000u) {
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3f000000u));
  }
  const uint32_t even = magnitude >> 13 & 1u;
  return static_cast<uint16_t>(sign | ((magnitude - 0x38000000u + 0xfffu + even) >> 13));
}

uint16_t brain_of_float(float x) noexcept {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>(bits >> 16 | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

}  // namespace

bool extremes_f32__scalar(const float* x, int64_t n, float* low, float* high) noexcept {
  bool numbers = true;
  for (int64_t i = 0; i < n; ++i) {
    *low = x[i] < *low ? x[i] : *low;
    *high = x[i] > *high ? x[i] : *high;
    numbers = numbers && !std::isnan(x[i]);
  }
  return numbers;
}

bool column_extremes_f32__scalar(const float* x, int64_t rows, int64_t columns, float* low, float* high) noexcept {
  bool numbers = true;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < columns; ++c)
      numbers = extremes_f32__scalar(x + r * columns + c, 1, low + c, high + c) && numbers;
  return numbers;
}

bool quantize_f32__scalar(const float* x, float* y, uint8_t* passed, int64_t n, const Grid& grid, const Gate& gate,
                          bool) noexcept {
  return quantize(x, y, passed, n, gate, [&](int64_t) -> const Grid& { return grid; });
}

bool column_quantize_f32__scalar(const float* x, float* y, uint8_t* passed, int64_t n, const Grids& grids,
                                 const Gate& gate) noexcept {
  return quantize(x, y, passed, n, gate, [&](int64_t i) { return grid_of(grids, i); });
}

void mask_b32__scalar(const uint32_t* g, const uint8_t* passed, uint32_t* y, int64_t n, bool) noexcept {
  mask(g, passed, y, n);
}

void mask_b16__scalar(const uint16_t* g, const uint8_t* passed, uint16_t* y, int64_t n) noexcept {
  mask(g, passed, y, n);
}

void learn_f32__scalar(const float* x, const float* g, float* gx, int64_t n, const Grid& grid, const Gate& gate,
                       double* sums) noexcept {
  learn(
      x, g, gx, n, gate, sums, kLanes, [&](int64_t) -> const Grid& { return grid; },
      [](int64_t i) { return i % kLanes; });
}

void column_learn_f32__scalar(const float* x, const float* g, float* gx, int64_t n, const Grids& grids, double* sums,
                              int64_t stride) noexcept {
  learn(x, g, gx, n, Gate{}, sums, stride, [&](int64_t i) { return grid_of(grids, i); }, [](int64_t i) { return i; });
}

void widen_bf16_f32__scalar(const uint16_t* x, float* y, int64_t n) noexcept {
  for (int64_t i = 0; i < n; ++i) y[i] = std::bit_cast<float>(static_cast<uint32_t>(x[i]) << 16);
}

void widen_f16_f32__scalar(const uint16_t* x, float* y, int64_t n) noexcept {
  for (int64_t i = 0; i < n; ++i) y[i] = float_of_half(x[i]);
}

void narrow_f32_bf16__scalar(const float* x, uint16_t* y, int64_t n) noexcept {
  for (int64_t i = 0; i < n; ++i) y[i] = brain_of_float(x[i]);
}

void narrow_f32_f16__scalar(const float* x, uint16_t* y, int64_t n) noexcept {
  for (int64_t i = 0; i < n; ++i) y[i] = half_of_float(x[i]);
}

}  // namespace qfx::fake_quant
