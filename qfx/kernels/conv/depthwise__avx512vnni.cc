#include "conv/depthwise.h"
#include "core/kernels_of_level.h"
#include "gemm/finish__avx512vnni.h"

namespace qfx::conv {
namespace {

using namespace gemm;

inline __m512i two_lines(const uint8_t* a, const uint8_t* b) noexcept {
  const __m512i low = _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(a)));
  return _mm512_inserti64x4(low, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b)), 1);
}

inline __m512i byte_transpose() noexcept {
  return _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
}

void interleave_32(const InterleaveLine& line) noexcept {
  const __m512i first = _mm512_setr_epi32(0, 8, 16, 24, 1, 9, 17, 25, 2, 10, 18, 26, 3, 11, 19, 27);
  const __m512i second = _mm512_add_epi32(first, _mm512_set1_epi32(4));
  const __m512i transpose = byte_transpose();
  const uint8_t *p0 = line.lines[0], *p1 = line.lines[1], *p2 = line.lines[2], *p3 = line.lines[3];
  const int64_t s0 = line.steps[0], s1 = line.steps[1], s2 = line.steps[2], s3 = line.steps[3];
  std::byte* to = line.to;
  for (int64_t i = line.count; i > 0; --i, to += 128) {
    const __m512i a = two_lines(p0, p1), b = two_lines(p2, p3);
    _mm512_storeu_si512(to, _mm512_shuffle_epi8(_mm512_permutex2var_epi32(a, first, b), transpose));
    _mm512_storeu_si512(to + 64, _mm512_shuffle_epi8(_mm512_permutex2var_epi32(a, second, b), transpose));
    p0 += s0, p1 += s1, p2 += s2, p3 += s3;
  }
}

inline __m128i load_16(const uint8_t* p) noexcept {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
}

void interleave_16(const InterleaveLine& line) noexcept {
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __m512i transpose = byte_transpose();
  const uint8_t *p0 = line.lines[0], *p1 = line.lines[1], *p2 = line.lines[2], *p3 = line.lines[3];
  const int64_t s0 = line.steps[0], s1 = line.steps[1], s2 = line.steps[2], s3 = line.steps[3];
  std::byte* to = line.to;
  for (int64_t i = line.count; i > 0; --i, to += 128) {
    __m512i all = _mm512_inserti32x4(_mm512_castsi128_si512(load_16(p0)), load_16(p1), 1);
    all = _mm512_inserti32x4(_mm512_inserti32x4(all, load_16(p2), 2), load_16(p3), 3);
    _mm512_storeu_si512(to, _mm512_shuffle_epi8(_mm512_permutexvar_epi32(order, all), transpose));
    p0 += s0, p1 += s1, p2 += s2, p3 += s3;
  }
}

void interleave(const InterleaveLine& line) noexcept {
  return line.lanes <= 16 ? interleave_16(line) : interleave_32(line);
}

// Two outputs of V vectors each (the halves of one 64-byte vector of codes).
template <int V>
QFX_INLINE void finish_two(const Finish<V>& f, uint8_t* ya, uint8_t* yb, __m512i a0, __m512i a1, __m512i b0,
                           __m512i b1) noexcept {
  const auto code = [&](__m512i c, __m512 m) { return rounded(scaled(c, m)); };
  const __m512i qa = code(a0, f.m0), qb = code(b0, f.m0);
  const __m512i codes =
      bytes<64>(f, words(f, qa, V > 1 ? code(a1, f.m1) : qa), words(f, qb, V > 1 ? code(b1, f.m1) : qb));
  store(f, ya, codes);
  const __m256i upper = _mm512_extracti64x4_epi64(codes, 1);
  if (!f.full) {
    _mm256_mask_storeu_epi8(yb, static_cast<__mmask32>(f.columns), upper);
  } else if constexpr (V == 2) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(yb), upper);
  } else {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(yb), _mm256_castsi256_si128(upper));
  }
}

// One output line's accumulators of pixel p (V vectors), whatever the epilogue.
template <int V>
inline void finish_one(const Output& out, int64_t p, __m512i c0, __m512i c1) noexcept {
  if (out.y == nullptr) return;
  alignas(64) int32_t acc[16 * V];
  _mm512_store_si512(acc, c0);
  if constexpr (V > 1) _mm512_store_si512(acc + 16, c1);
  finish_general(out, p, acc);
}

#define QFX_PIXELS(X) X(0) X(1) X(2) X(3)

// P outputs from output `at` of L lines, V vectors of 16 lanes.
template <int P, int L, int V, bool kPlain>
inline void outputs(const DepthwiseLine& line, const Finish<V>& f, int64_t at) noexcept {
  const __m512i i0 = _mm512_loadu_si512(line.bias);
  const __m512i i1 = V > 1 ? _mm512_loadu_si512(line.bias + 16) : i0;
#define QFX_DECLARE(p) [[maybe_unused]] __m512i c##p##_00 = i0, c##p##_01 = i1, c##p##_10 = i0, c##p##_11 = i1;
  QFX_PIXELS(QFX_DECLARE)
#undef QFX_DECLARE
  const std::byte* w = line.weights;
  for (int64_t group = 0; group < line.groups; ++group) {
    const std::byte* d = line.data + group * line.group_step + at * line.pixel_step;
    for (int64_t tap = line.column_taps; tap > 0; --tap, d += line.tap_step, w += 128 * L) {
      const __m512i w00 = _mm512_loadu_si512(w);
      [[maybe_unused]] __m512i w01, w10, w11;
      if constexpr (V > 1) w01 = _mm512_loadu_si512(w + 64);
      if constexpr (L > 1) w10 = _mm512_loadu_si512(w + 128);
      if constexpr (L > 1 && V > 1) w11 = _mm512_loadu_si512(w + 192);
#define QFX_STEP(p)                                                        \
  if constexpr (P > p) {                                                   \
    const __m512i d0 = _mm512_loadu_si512(d + p * line.pixel_step);        \
    QFX_DOT(c##p##_00, d0, w00);                                           \
    if constexpr (L > 1) QFX_DOT(c##p##_10, d0, w10);                      \
    if constexpr (V > 1) {                                                 \
      const __m512i d1 = _mm512_loadu_si512(d + p * line.pixel_step + 64); \
      QFX_DOT(c##p##_01, d1, w01);                                         \
      if constexpr (L > 1) QFX_DOT(c##p##_11, d1, w11);                    \
    }                                                                      \
  }
      QFX_PIXELS(QFX_STEP)
#undef QFX_STEP
    }
  }
  if constexpr (!kPlain) {
#define QFX_FINISH(p)                                                              \
  if constexpr (P > p) {                                                           \
    finish_one<V>(line.out[0], at + p, c##p##_00, c##p##_01);                      \
    if constexpr (L > 1) finish_one<V>(line.out[1], at + p, c##p##_10, c##p##_11); \
  }
    QFX_PIXELS(QFX_FINISH)
#undef QFX_FINISH
  } else {
    const int64_t step = line.out[0].y_row;
    uint8_t* y0 = static_cast<uint8_t*>(line.out[0].y) + at * step;
    if constexpr (L > 1) {
      uint8_t* y1 = static_cast<uint8_t*>(line.out[1].y) + at * step;
#define QFX_FINISH(p) \
  if constexpr (P > p) finish_two(f, y0 + p * step, y1 + p * step, c##p##_00, c##p##_01, c##p##_10, c##p##_11);
      QFX_PIXELS(QFX_FINISH)
#undef QFX_FINISH
    } else {
      if constexpr (P > 1) finish_two(f, y0, y0 + step, c0_00, c0_01, c1_00, c1_01);
      if constexpr (P > 3) finish_two(f, y0 + 2 * step, y0 + 3 * step, c2_00, c2_01, c3_00, c3_01);
      if constexpr (P == 1) finish_row(f, y0, c0_00, c0_01, c0_00, c0_00);
      if constexpr (P == 3) finish_row(f, y0 + 2 * step, c2_00, c2_01, c2_00, c2_00);
    }
  }
}

template <int L, int V, bool kPlain>
void all_outputs(const DepthwiseLine& line) noexcept {
  const Finish<V> f(line.out[0]);
  int64_t at = 0;
  for (; at + 4 <= line.count; at += 4) outputs<4, L, V, kPlain>(line, f, at);
  switch (line.count - at) {
    case 3:
      return outputs<3, L, V, kPlain>(line, f, at);
    case 2:
      return outputs<2, L, V, kPlain>(line, f, at);
    case 1:
      return outputs<1, L, V, kPlain>(line, f, at);
    default:
      return;
  }
}

template <int L, int V>
void run_line(const DepthwiseLine& line) noexcept {
  const Output& out = line.out[0];
  const Epilogue& e = *out.epilogue;
  const bool plain = e.bounded && !e.f32_output && out.residual == nullptr && (L == 1 || line.out[1].y != nullptr);
  if (plain) {
    all_outputs<L, V, true>(line);
  } else {
    all_outputs<L, V, false>(line);
  }
}

void depthwise(const DepthwiseLine& line) noexcept {
  const bool narrow_line = line.out[0].columns <= 16;
  if (line.lines == 1) return narrow_line ? run_line<1, 1>(line) : run_line<1, 2>(line);
  return narrow_line ? run_line<2, 1>(line) : run_line<2, 2>(line);
}

inline __m512i affine_vector(const AffineLine& line, const uint8_t* x, int v) noexcept {
  const int64_t left = line.out.columns - 16 * v;
  if (left <= 0) return _mm512_setzero_si512();
  const __mmask16 mask = first_floats(left);
  const __m512i wide = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, x + 16 * v));
  const __m512i product = _mm512_madd_epi16(wide, _mm512_loadu_si512(line.weights + 32 * v));
  return _mm512_add_epi32(product, _mm512_loadu_si512(line.bias + 16 * v));
}

void affine(const AffineLine& line) noexcept {
  const Output& out = line.out;
  const Finish<4> f(out);
  const bool plain = out.epilogue->bounded && !out.epilogue->f32_output && out.residual == nullptr;
  for (int64_t row = 0; row < line.count; ++row) {
    const uint8_t* x = line.x + row * line.x_row;
    const __m512i c0 = affine_vector(line, x, 0), c1 = affine_vector(line, x, 1);
    const __m512i c2 = affine_vector(line, x, 2), c3 = affine_vector(line, x, 3);
    if (plain) {
      finish_row(f, static_cast<uint8_t*>(out.y) + row * out.y_row, c0, c1, c2, c3);
      continue;
    }
    alignas(64) int32_t acc[64];
    _mm512_store_si512(acc, c0), _mm512_store_si512(acc + 16, c1);
    _mm512_store_si512(acc + 32, c2), _mm512_store_si512(acc + 48, c3);
    finish_general(out, row, acc);
  }
}

}  // namespace

#undef QFX_IF_avx512vnni
#define QFX_IF_avx512vnni(...) __VA_ARGS__
#define QFX_CONV_DEPTHWISE(name, isa, pixels, channels) \
  QFX_IF_##isa(                                         \
      void name(const DepthwiseLine& line) noexcept {   \
        depthwise(line);                                \
      } void name##_interleave(const InterleaveLine& line) noexcept { interleave(line); })
#define QFX_CONV_AFFINE(name, isa, channels) QFX_IF_##isa(void name(const AffineLine& line) noexcept { affine(line); })
#include "conv/kernels.inc"

}  // namespace qfx::conv
