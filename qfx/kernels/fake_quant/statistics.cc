#include "fake_quant/statistics.h"

#include <algorithm>
#include <cmath>

namespace qfx::fake_quant {

void observe(const Statistics& s, const Integers& integers, int64_t c, float low, float high,
             const QParamState& state) noexcept {
  float& lowest = s.low[c];
  float& highest = s.high[c];
  const bool seen = lowest <= highest;
  if (!seen) {
    lowest = low;
    highest = high;
  } else if (s.average) {
    const float down = s.constant * (low - lowest), up = s.constant * (high - highest);
    lowest = lowest + down;
    highest = highest + up;
  } else {
    lowest = std::min(lowest, low);
    highest = std::max(highest, high);
  }
  const float below = std::min(lowest, 0.0f), above = std::max(highest, 0.0f);
  const auto steps = static_cast<float>(integers.highest - integers.lowest);
  if (s.symmetric) {
    state.scale[c] = std::max(std::max(-below, above) / (steps / 2.0f), s.eps);
    state.zero_point[c] = s.middle;
    return;
  }
  float scale = (above - below) / steps;
  if (std::isinf(scale)) scale = above / steps - below / steps;
  scale = std::max(scale, s.eps);
  const int64_t zero_point = integers.lowest - static_cast<int64_t>(std::nearbyint(below / scale));
  state.scale[c] = scale;
  state.zero_point[c] = static_cast<int32_t>(std::clamp<int64_t>(zero_point, integers.lowest, integers.highest));
}

}  // namespace qfx::fake_quant
