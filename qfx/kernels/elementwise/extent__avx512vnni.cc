#include "elementwise/extent.h"

#include "core/lanes__avx512vnni.h"
#include "elementwise/kernels.h"

namespace qfx::elementwise {

void extent_f32_x16__avx512vnni(const float* x, int64_t n, float* low, float* high) noexcept {
  extent<Floats>(x, n, low, high);
}

}  // namespace qfx::elementwise
