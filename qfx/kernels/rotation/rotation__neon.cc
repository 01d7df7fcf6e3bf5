#include "core/lanes__neon.h"
#include "rotation/hadamard.h"
#include "rotation/kernels.h"

namespace qfx::rotation {
namespace {

template <>
inline Floats signed_sum(Floats a, Floats sign, Floats b) noexcept {
  return (Floats)vfmaq_f32((float32x4_t)b, (float32x4_t)a, (float32x4_t)sign);
}

}  // namespace

void rotate_f32_x4__neon(const float* x, float* y, int64_t blocks, int64_t block) noexcept {
  rotate<Floats>(x, y, blocks, block);
}

void rotate_extent_f32_x4__neon(const float* x, float* y, int64_t blocks, int64_t block, float* low,
                                float* high) noexcept {
  rotate_extent<Floats>(x, y, blocks, block, low, high);
}

}  // namespace qfx::rotation
