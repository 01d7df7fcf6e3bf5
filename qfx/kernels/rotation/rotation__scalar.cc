#include <cmath>

#include "elementwise/kernels.h"
#include "rotation/kernels.h"

namespace qfx::rotation {

void rotate_f32__scalar(const float* x, float* y, int64_t blocks, int64_t block) noexcept {
  const auto scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(block)));
  for (int64_t b = 0; b < blocks; ++b, x += block, y += block) {
    for (int64_t i = 0; i < block; ++i) y[i] = x[i];
    for (int64_t apart = 1; apart < block; apart *= 2)
      for (int64_t i = 0; i < block; ++i) {
        if ((i & apart) != 0) continue;
        const float first = y[i], second = y[i + apart];
        y[i] = first + second;
        y[i + apart] = first - second;
      }
    for (int64_t i = 0; i < block; ++i) y[i] *= scale;
  }
}

void rotate_extent_f32__scalar(const float* x, float* y, int64_t blocks, int64_t block, float* low,
                               float* high) noexcept {
  rotate_f32__scalar(x, y, blocks, block);
  elementwise::extent_f32__scalar(y, blocks * block, low, high);
}

}  // namespace qfx::rotation
