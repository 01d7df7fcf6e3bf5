#include "elementwise/extent.h"

#include "core/lanes__neon.h"
#include "elementwise/kernels.h"

namespace qfx::elementwise {

void extent_f32_x4__neon(const float* x, int64_t n, float* low, float* high) noexcept {
  extent<Floats>(x, n, low, high);
}

}  // namespace qfx::elementwise
