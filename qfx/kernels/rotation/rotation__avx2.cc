#include "core/lanes__avx2.h"
#include "rotation/hadamard.h"
#include "rotation/kernels.h"

namespace qfx::rotation {
namespace {

template <>
inline Floats signed_sum(Floats a, Floats sign, Floats b) noexcept {
  return _mm256_fmadd_ps(a, sign, b);
}

}  // namespace

void rotate_f32_x8__avx2(const float* x, float* y, int64_t blocks, int64_t block) noexcept {
  rotate<Floats>(x, y, blocks, block);
}

void rotate_extent_f32_x8__avx2(const float* x, float* y, int64_t blocks, int64_t block, float* low,
                                float* high) noexcept {
  rotate_extent<Floats>(x, y, blocks, block, low, high);
}

}  // namespace qfx::rotation
