#include "core/half.h"

#include <cstring>

#include "gemm/half.h"

namespace qfx::gemm {

void gemm_f32f16__scalar(const HalfPanel& panel, const float* x, int64_t x_row, int64_t rows, float* y,
                         int64_t y_row) noexcept {
  const int64_t columns = panel.vectors * kHalfLanes;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t o = 0; o < columns; ++o) {
      float sum = 0.0f;
      for (int64_t i = 0; i < panel.steps; ++i) {
        uint16_t half;
        std::memcpy(&half, panel.weight + (i * columns + o) * 2, sizeof half);
        sum += x[r * x_row + i] * float_of_half(half);
      }
      y[r * y_row + o] = sum + panel.bias[o];
    }
}

}  // namespace qfx::gemm
