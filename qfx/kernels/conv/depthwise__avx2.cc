#include "conv/depthwise.h"
#include "core/kernels_of_level.h"
#include "gemm/finish__avxvnni.h"

namespace qfx::conv {
namespace {

using namespace gemm;

inline __m256i load(const void* p) noexcept {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}

inline void store(std::byte* to, __m256i v) noexcept {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), v);
}

void interleave(const InterleaveLine& line) noexcept {
  const uint8_t *p0 = line.lines[0], *p1 = line.lines[1], *p2 = line.lines[2], *p3 = line.lines[3];
  std::byte* to = line.to;
  for (int64_t i = line.count; i > 0; --i, to += 128) {
    const __m256i r0 = load(p0), r1 = load(p1), r2 = load(p2), r3 = load(p3);
    const __m256i low01 = _mm256_unpacklo_epi8(r0, r1), high01 = _mm256_unpackhi_epi8(r0, r1);
    const __m256i low23 = _mm256_unpacklo_epi8(r2, r3), high23 = _mm256_unpackhi_epi8(r2, r3);
    const __m256i a = _mm256_unpacklo_epi16(low01, low23), b = _mm256_unpackhi_epi16(low01, low23);
    const __m256i c = _mm256_unpacklo_epi16(high01, high23), d = _mm256_unpackhi_epi16(high01, high23);
    store(to, _mm256_permute2x128_si256(a, b, 0x20));
    store(to + 32, _mm256_permute2x128_si256(c, d, 0x20));
    store(to + 64, _mm256_permute2x128_si256(a, b, 0x31));
    store(to + 96, _mm256_permute2x128_si256(c, d, 0x31));
    p0 += line.steps[0], p1 += line.steps[1], p2 += line.steps[2], p3 += line.steps[3];
  }
}

// Four bytes a lane as two pairs of s16: bytes 0 and 2, bytes 1 and 3.
struct Pairs {
  __m256i even, odd;
};

inline Pairs activations(const std::byte* p) noexcept {
  const __m256i bytes = load(p);
  return {_mm256_and_si256(bytes, _mm256_set1_epi16(0xff)), _mm256_srli_epi16(bytes, 8)};
}

inline Pairs weights(const std::byte* p) noexcept {
  const __m256i bytes = load(p);
  return {_mm256_srai_epi16(_mm256_slli_epi16(bytes, 8), 8), _mm256_srai_epi16(bytes, 8)};
}

inline void dot(__m256i& acc, const Pairs& a, const Pairs& w) noexcept {
  acc = _mm256_add_epi32(acc, _mm256_add_epi32(_mm256_madd_epi16(a.even, w.even), _mm256_madd_epi16(a.odd, w.odd)));
}

// P outputs, from output `at` on, of eight lanes of L lines.
template <int P, int L, Ending kEnding>
void outputs(const DepthwiseLine& line, int64_t lane, int64_t at) noexcept {
  const __m256i initial = load(line.bias + lane);
#define QFX_PIXELS(X) X(0) X(1) X(2) X(3)
#define QFX_DECLARE(p) [[maybe_unused]] __m256i c##p##_0 = initial, c##p##_1 = initial;
  QFX_PIXELS(QFX_DECLARE)
#undef QFX_DECLARE
  const std::byte* w = line.weights + lane * 4;
  const int64_t s = line.pixel_step;
  for (int64_t group = 0; group < line.groups; ++group) {
    const std::byte* d = line.data + group * line.group_step + at * s + lane * 4;
    for (int64_t tap = line.column_taps; tap > 0; --tap, d += line.tap_step, w += 128 * L) {
      const Pairs w0 = weights(w), w1 = L > 1 ? weights(w + 128) : w0;
#define QFX_STEP(p)                            \
  if constexpr (P > p) {                       \
    const Pairs x = activations(d + p * s);    \
    dot(c##p##_0, x, w0);                      \
    if constexpr (L > 1) dot(c##p##_1, x, w1); \
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
#undef QFX_PIXELS
  finish_rows<P, 1, kEnding>(line.out[0], at, lane, first);
  if (L > 1 && line.out[1].y != nullptr) finish_rows<P, 1, kEnding>(line.out[1], at, lane, second);
}

template <int L, Ending kEnding>
void eight_lanes(const DepthwiseLine& line, int64_t lane) noexcept {
  int64_t at = 0;
  for (; at + 4 <= line.count; at += 4) outputs<4, L, kEnding>(line, lane, at);
  if (line.count - at >= 2) outputs<2, L, kEnding>(line, lane, at), at += 2;
  if (line.count > at) outputs<1, L, kEnding>(line, lane, at);
}

template <int L>
void all_lanes(const DepthwiseLine& line) noexcept {
  for (int64_t lane = 0; lane < line.out[0].columns; lane += 8) {
    by_ending(line.out[0], lane, 8, [&](auto ending) { eight_lanes<L, decltype(ending)::value>(line, lane); });
  }
}

void depthwise(const DepthwiseLine& line) noexcept {
  line.lines == 1 ? all_lanes<1>(line) : all_lanes<2>(line);
}

void affine(const AffineLine& line) noexcept {
  for (int64_t row = 0; row < line.count; ++row) {
    const uint8_t* x = line.x + row * line.x_row;
    for (int64_t first = 0; first < line.out.columns; first += 8) {
      const __m256i wide = _mm256_cvtepu8_epi32(load_bytes(x + first, line.out.columns - first));
      const __m256i product = _mm256_madd_epi16(wide, load(line.weights + 2 * first));
      finish_eight(line.out, row, first, _mm256_add_epi32(product, load(line.bias + first)));
    }
  }
}

}  // namespace

#undef QFX_IF_avx2
#define QFX_IF_avx2(...) __VA_ARGS__
#define QFX_CONV_DEPTHWISE(name, isa, pixels, channels) \
  QFX_IF_##isa(                                         \
      void name(const DepthwiseLine& line) noexcept {   \
        depthwise(line);                                \
      } void name##_interleave(const InterleaveLine& line) noexcept { interleave(line); })
#define QFX_CONV_AFFINE(name, isa, channels) QFX_IF_##isa(void name(const AffineLine& line) noexcept { affine(line); })
#include "conv/kernels.inc"

}  // namespace qfx::conv
