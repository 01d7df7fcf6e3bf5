#include "core/lanes__neon.h"
#include "rotation/hadamard.h"
#include "rotation/kernels.h"

namespace qfx::rotation {

void rotate_f32_x4__neon(const float* x, float* y, int64_t blocks, int64_t block) noexcept {
  rotate<Floats>(x, y, blocks, block);
}

}  // namespace qfx::rotation
