#include "conv/depthwise.h"
#include "core/dot__avxvnni.h"
#include "core/kernels_of_level.h"
#include "gemm/finish__avxvnni.h"

namespace qfx::conv {
namespace {

using namespace gemm;

inline __m256i load(const void* p) noexcept {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}

#define QFX_PIXELS(X) X(0) X(1) X(2) X(3) X(4) X(5)

// P outputs, from output `at` on, of eight lanes of L lines.
template <int P, int L, Ending kEnding>
void outputs(const DepthwiseLine& line, int64_t lane, int64_t at) noexcept {
  const __m256i initial = load(line.bias + lane);
#define QFX_DECLARE(p) [[maybe_unused]] __m256i c##p##_0 = initial, c##p##_1 = initial;
  QFX_PIXELS(QFX_DECLARE)
#undef QFX_DECLARE
  const std::byte* w = line.weights + lane * 4;
  const int64_t s = line.pixel_step;
  for (int64_t group = 0; group < line.groups; ++group) {
    const std::byte* d = line.data + group * line.group_step + at * s + lane * 4;
    for (int64_t tap = line.column_taps; tap > 0; --tap, d += line.tap_step, w += 128 * L) {
      const __m256i w0 = load(w);
      [[maybe_unused]] __m256i w1;
      if constexpr (L > 1) w1 = load(w + 128);
#define QFX_STEP(p)                                \
  if constexpr (P > p) {                           \
    const __m256i x = load(d + p * s);             \
    QFX_DOT(c##p##_0, x, w0);                      \
    if constexpr (L > 1) QFX_DOT(c##p##_1, x, w1); \
  }
      QFX_PIXELS(QFX_STEP)
#undef QFX_STEP
    }
  }
  __m256i first[P], second[P];
#define QFX_COLLECT(p)    \
  if constexpr (P > p) {  \
    first[p] = c##p##_0;  \
    second[p] = c##p##_1; \
  }
  QFX_PIXELS(QFX_COLLECT)
#undef QFX_COLLECT
  finish_rows<P, 1, kEnding>(line.out[0], at, lane, first);
  if (L > 1 && line.out[1].y != nullptr) finish_rows<P, 1, kEnding>(line.out[1], at, lane, second);
}

template <int P, int L, Ending kEnding>
void outputs_of(const DepthwiseLine& line, int64_t lane, int64_t at, int64_t count) noexcept {
  if (count == P) return outputs<P, L, kEnding>(line, lane, at);
  if constexpr (P > 1) outputs_of<P - 1, L, kEnding>(line, lane, at, count);
}

// Eight lanes, in the fewest steps, whose sizes differ by one at most.
template <int P, int L, Ending kEnding>
void eight_lanes(const DepthwiseLine& line, int64_t lane) noexcept {
  const int64_t steps = (line.count + P - 1) / P;
  for (int64_t i = 0; i < steps; ++i) {
    const int64_t at = line.count * i / steps;
    outputs_of<P, L, kEnding>(line, lane, at, line.count * (i + 1) / steps - at);
  }
}

template <int P, int L>
void all_lanes(const DepthwiseLine& line) noexcept {
  for (int64_t lane = 0; lane < line.out[0].columns; lane += 8) {
    by_ending(line.out[0], lane, 8, [&](auto ending) { eight_lanes<P, L, decltype(ending)::value>(line, lane); });
  }
}

template <int P>
void depthwise(const DepthwiseLine& line) noexcept {
  line.lines == 1 ? all_lanes<P, 1>(line) : all_lanes<P, 2>(line);
}

}  // namespace
}  // namespace qfx::conv

// Interleaving has nothing to gain from this level.
QFX_KERNELS(conv) {
#undef QFX_IF_avxvnni
#define QFX_IF_avxvnni(...) __VA_ARGS__
#define QFX_CONV_DEPTHWISE(name, isa, pixels, channels) \
  QFX_IF_##isa(                                         \
      void name(const DepthwiseLine& line) noexcept {   \
        depthwise<pixels>(line);                        \
      } void name##_interleave(const InterleaveLine& line) noexcept { depthwise_u8s8_4x8c4__avx2_interleave(line); })
#include "conv/kernels.inc"
}
