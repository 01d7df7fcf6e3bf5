#include "core/lanes__neon.h"
#include "rotary/kernels.h"
#include "rotary/turn.h"

namespace qfx::rotary {

void rotary_halves_f32_x4__neon(const float* x, const float* cos, const float* sin, float* y, int64_t pairs,
                                bool shared) noexcept {
  turn_halves<Floats>(x, cos, sin, y, pairs, shared);
}
void rotary_pairs_f32_x4__neon(const float* x, const float* cos, const float* sin, float* y, int64_t pairs,
                               bool shared) noexcept {
  turn_pairs<Floats>(x, cos, sin, y, pairs, shared);
}

}  // namespace qfx::rotary
