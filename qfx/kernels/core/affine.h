#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>

namespace qfx {

struct Affine {
  float scale;  // not finite: the range was not
  int32_t zero_point;
};

// As qfx.ops.arithmetic.affine_qparams for a range that includes zero and codes 0..255.
inline Affine affine_of(double lowest, double highest) noexcept {
  auto scale = static_cast<float>((highest - lowest) / 255);
  if (scale == 0.0f) scale = 1.0f;
  if (!std::isfinite(scale)) return {scale, 0};
  const double zero_point = std::nearbyint(-lowest / static_cast<double>(scale));
  return {scale, static_cast<int32_t>(std::clamp(zero_point, 0.0, 255.0))};
}

}  // namespace qfx
