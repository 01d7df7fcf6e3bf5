#include "move/kernels.h"

namespace qfx::move {
namespace {

template <class T>
void transpose(const T* x, int64_t x_stride, T* y, int64_t y_stride, int64_t rows, int64_t columns) noexcept {
  for (int64_t c = 0; c < columns; ++c)
    for (int64_t r = 0; r < rows; ++r) y[c * y_stride + r] = x[r * x_stride + c];
}

}  // namespace

void transpose_u8__scalar(const uint8_t* x, int64_t x_stride, uint8_t* y, int64_t y_stride, int64_t rows,
                          int64_t columns) noexcept {
  transpose(x, x_stride, y, y_stride, rows, columns);
}

void transpose_u32__scalar(const uint32_t* x, int64_t x_stride, uint32_t* y, int64_t y_stride, int64_t rows,
                           int64_t columns) noexcept {
  transpose(x, x_stride, y, y_stride, rows, columns);
}

}  // namespace qfx::move
