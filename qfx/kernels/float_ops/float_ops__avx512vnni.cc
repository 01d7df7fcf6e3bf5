#include "core/lanes__avx512vnni.h"
#include "float_ops/norm.h"
#include "float_ops/pointwise.h"
#include "float_ops/softmax.h"

namespace qfx::float_ops {
void normalize_row_f32_x16__avx512vnni(const float* x, float* y, int64_t n, float eps, const float* weight,
                                       const float* bias) noexcept {
  normalize_row<Floats>(x, y, n, eps, weight, bias);
}
void rms_row_f32_x16__avx512vnni(const float* x, float* y, int64_t n, float eps, const float* weight,
                                 const float* bias) noexcept {
  rms_row<Floats>(x, y, n, eps, weight, bias);
}
void softmax_row_f32_x16__avx512vnni(const float* x, float* y, int64_t n, bool log) noexcept {
  softmax_row<Floats>(x, y, n, log);
}
void softmax_columns_f32_x16__avx512vnni(const float* x, float* y, int64_t n, int64_t stride, int64_t columns,
                                         bool log) noexcept {
  softmax_columns<Floats>(x, y, n, stride, columns, log);
}
void pointwise_f32_x16__avx512vnni(PointwiseFunction function, const float* args, const float* x, float* y,
                                   int64_t n) noexcept {
  pointwise<Floats>(function, args, x, y, n);
}

}  // namespace qfx::float_ops
