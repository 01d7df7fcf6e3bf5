#include "core/lanes__avx512vnni.h"
#include "rotation/hadamard.h"
#include "rotation/kernels.h"

namespace qfx::rotation {
namespace {

template <>
inline Floats signed_sum(Floats a, Floats sign, Floats b) noexcept {
  return _mm512_fmadd_ps(a, sign, b);
}

}  // namespace

void rotate_f32_x16__avx512vnni(const float* x, float* y, int64_t blocks, int64_t block) noexcept {
  rotate<Floats>(x, y, blocks, block);
}

void rotate_extent_f32_x16__avx512vnni(const float* x, float* y, int64_t blocks, int64_t block, float* low,
                                       float* high) noexcept {
  rotate_extent<Floats>(x, y, blocks, block, low, high);
}

}  // namespace qfx::rotation
