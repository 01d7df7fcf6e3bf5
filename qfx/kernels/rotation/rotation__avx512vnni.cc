#include "core/lanes__avx512vnni.h"
#include "rotation/hadamard.h"
#include "rotation/kernels.h"

namespace qfx::rotation {

void rotate_f32_x16__avx512vnni(const float* x, float* y, int64_t blocks, int64_t block) noexcept {
  rotate<Floats>(x, y, blocks, block);
}

}  // namespace qfx::rotation
