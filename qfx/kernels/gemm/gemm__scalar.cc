#include <algorithm>

#include "core/requant.h"
#include "gemm/tile.h"

namespace qfx::gemm {
namespace {

constexpr int kColumns = 16;
constexpr int kDepth = 4;

float value(const Output& out, int64_t row, int64_t c, int32_t acc) noexcept {
  const Epilogue& e = *out.epilogue;
  auto sum = static_cast<uint32_t>(acc);
  const Dynamic& d = out.dynamic;
  if (d.scale != nullptr) {
    sum -= static_cast<uint32_t>(d.zero_point[row]) * static_cast<uint32_t>(d.column_sum[c]);
    if (d.column_zero_point != nullptr) {
      sum -= static_cast<uint32_t>(d.column_zero_point[c]) * static_cast<uint32_t>(d.row_sum[row]);
    }
    return static_cast<float>(static_cast<int32_t>(sum)) * (d.scale[row] * out.multiplier[c]) + d.bias[c];
  }
  if (out.row_bias != nullptr) sum += static_cast<uint32_t>(out.row_bias[row]);
  const float v = static_cast<float>(static_cast<int32_t>(sum)) * out.multiplier[c];
  if (out.residual == nullptr) return v;
  const int32_t r = out.residual[row * out.residual_row + c] - e.residual_zero_point;
  return v + static_cast<float>(r) * e.residual_multiplier;
}

void finish(const Output& out, int64_t row, int64_t c, int32_t acc) noexcept {
  const Epilogue& e = *out.epilogue;
  float v = value(out, row, c, acc);
  if (e.f32_output) {
    if (out.addend != nullptr) v += out.addend[row * out.addend_row + c];
    static_cast<float*>(out.y)[row * out.y_row + c] = std::min(std::max(v, e.f32_lo), e.f32_hi);
    return;
  }
  const uint8_t code = requantize(v, e.zero_point, e.lo, e.hi);
  static_cast<uint8_t*>(out.y)[row * out.y_row + c] = e.lut == nullptr ? code : e.lut[code];
}

// One row: a loop that compilers turn into the vectors that every machine of an architecture has.
void row(const Tile& t, int64_t row) noexcept {
  uint32_t sums[kColumns];
  for (int c = 0; c < kColumns; ++c) sums[c] = static_cast<uint32_t>(t.start[c]);
  const auto* b = reinterpret_cast<const int8_t*>(t.b);
  for (int64_t tap = 0; tap < t.tap_count; ++tap) {
    const auto* x = reinterpret_cast<const uint8_t*>(t.a) + row * t.a_row + t.taps[tap];
    for (int64_t step = 0; step < t.steps; ++step, x += kDepth, b += kColumns * kDepth) {
      for (int c = 0; c < kColumns; ++c) {
        int32_t sum = 0;
        for (int i = 0; i < kDepth; ++i) sum += x[i] * b[c * kDepth + i];
        sums[c] += static_cast<uint32_t>(sum);
      }
    }
  }
  for (int64_t c = 0; c < t.out.columns; ++c) finish(t.out, row, c, static_cast<int32_t>(sums[c]));
}

}  // namespace

void gemm_u8s8_1x16c4__scalar(const Tile& tile, int64_t rows) noexcept {
  for (int64_t r = 0; r < rows; ++r) row(tile, r);
}

}  // namespace qfx::gemm
