#include <cstring>

#include "recurrent/cell.h"
#include "recurrent/half.h"

namespace qfx::recurrent {

void product_u8s8__scalar(const Panel& panel, const Codes& codes, int64_t rows, float* y, int64_t y_stride) noexcept {
  const int64_t columns = panel.vectors * kLanes;
  const auto* w = reinterpret_cast<const int8_t*>(panel.weight);
  int32_t acc[kVectors * kLanes];
  for (int64_t r = 0; r < rows; ++r) {
    const uint8_t* x = codes.x + r * codes.stride;
    for (int64_t o = 0; o < columns; ++o) {
      int32_t sum = 0;
      for (int64_t i = 0; i < panel.steps * kDepth; ++i)
        sum += x[i] * w[(i / kDepth * columns + o) * kDepth + i % kDepth];
      acc[o] = sum;
    }
    Codes row = codes;
    if (codes.sum != nullptr) row.sum += r;
    finish<float, uint32_t>(panel, row, 1, acc, y + r * y_stride, y_stride);
  }
}

void product_f32f16__scalar(const Panel& panel, const float* x, int64_t x_stride, int64_t rows, float* y,
                            int64_t y_stride) noexcept {
  const int64_t columns = panel.vectors * kLanes;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t o = 0; o < columns; ++o) {
      float sum = 0.0f;
      for (int64_t i = 0; i < panel.steps; ++i) {
        uint16_t half;
        std::memcpy(&half, panel.weight + (i * columns + o) * 2, sizeof half);
        sum += x[r * x_stride + i] * float_of_half(half);
      }
      y[r * y_stride + o] = sum + panel.bias[o];
    }
}

void lstm_f32__scalar(const CellBlock& block) noexcept {
  lstm<float>(block);
}
void gru_f32__scalar(const CellBlock& block) noexcept {
  gru<float>(block);
}
void rnn_tanh_f32__scalar(const CellBlock& block) noexcept {
  rnn_tanh<float>(block);
}
void rnn_relu_f32__scalar(const CellBlock& block) noexcept {
  rnn_relu<float>(block);
}
void extent_f32__scalar(const float* x, int64_t n, float* low, float* high) noexcept {
  extent<float>(x, n, low, high);
}

}  // namespace qfx::recurrent
