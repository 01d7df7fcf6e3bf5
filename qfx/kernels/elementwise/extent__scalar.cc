#include "elementwise/extent.h"

#include "elementwise/kernels.h"

namespace qfx::elementwise {

void extent_f32__scalar(const float* x, int64_t n, float* low, float* high) noexcept {
  extent<float>(x, n, low, high);
}

}  // namespace qfx::elementwise
