#include "rotary/kernels.h"

namespace qfx::rotary {
namespace {

struct Turned {
  float first, second;
};

// An entry of cos and sin for the first number, and one for the second.
Turned turned(float a, float b, const float* cos, const float* sin, int64_t first, int64_t second) noexcept {
  return {a * cos[first] - b * sin[first], b * cos[second] + a * sin[second]};
}

}  // namespace

void rotary_halves_f32__scalar(const float* x, const float* cos, const float* sin, float* y, int64_t pairs,
                               bool shared) noexcept {
  for (int64_t i = 0; i < pairs; ++i) {
    const Turned pair = turned(x[i], x[i + pairs], cos, sin, i, shared ? i : i + pairs);
    y[i] = pair.first;
    y[i + pairs] = pair.second;
  }
}

void rotary_pairs_f32__scalar(const float* x, const float* cos, const float* sin, float* y, int64_t pairs,
                              bool shared) noexcept {
  for (int64_t i = 0; i < pairs; ++i) {
    const Turned pair = turned(x[2 * i], x[2 * i + 1], cos, sin, shared ? i : 2 * i, shared ? i : 2 * i + 1);
    y[2 * i] = pair.first;
    y[2 * i + 1] = pair.second;
  }
}

}  // namespace qfx::rotary
