#include "conv/depthwise.h"
#include "conv/finish__avx512vnni.h"
#include "core/only.h"

namespace qfx::conv {
namespace {

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

// The four lines of a SlideLine, column after column.
class Columns {
 public:
  explicit Columns(const SlideLine& line) noexcept
      : p0_(line.lines[0]),
        p1_(line.lines[1]),
        p2_(line.lines[2]),
        p3_(line.lines[3]),
        s0_(line.steps[0]),
        s1_(line.steps[1]),
        s2_(line.steps[2]),
        s3_(line.steps[3]),
        at_(-line.begin),
        inside_(static_cast<uint64_t>(line.end - line.begin)),
        padding_(_mm512_set1_epi8(static_cast<char>(line.padding))) {}

  // The next column's first 16 and other 16 lanes.
  QFX_INLINE void next(__m512i& low, __m512i& high) noexcept {
    const bool inside = static_cast<uint64_t>(at_++) < inside_;
    if (__builtin_expect(inside, 1)) {
      const __m512i first = _mm512_setr_epi32(0, 8, 16, 24, 1, 9, 17, 25, 2, 10, 18, 26, 3, 11, 19, 27);
      const __m512i second = _mm512_setr_epi32(4, 12, 20, 28, 5, 13, 21, 29, 6, 14, 22, 30, 7, 15, 23, 31);
      const __m512i a = two_lines(p0_, p1_), b = two_lines(p2_, p3_);
      low = _mm512_shuffle_epi8(_mm512_permutex2var_epi32(a, first, b), byte_transpose());
      high = _mm512_shuffle_epi8(_mm512_permutex2var_epi32(a, second, b), byte_transpose());
    } else {
      low = high = padding_;
    }
    p0_ += s0_, p1_ += s1_, p2_ += s2_, p3_ += s3_;
  }
  // The first 16 lanes alone.
  QFX_INLINE __m512i next_16() noexcept {
    const bool inside = static_cast<uint64_t>(at_++) < inside_;
    __m512i low = padding_;
    if (__builtin_expect(inside, 1)) {
      const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
      __m512i all = _mm512_inserti32x4(_mm512_castsi128_si512(load_16(p0_)), load_16(p1_), 1);
      all = _mm512_inserti32x4(_mm512_inserti32x4(all, load_16(p2_), 2), load_16(p3_), 3);
      low = _mm512_shuffle_epi8(_mm512_permutexvar_epi32(order, all), byte_transpose());
    }
    p0_ += s0_, p1_ += s1_, p2_ += s2_, p3_ += s3_;
    return low;
  }

 private:
  const uint8_t *p0_, *p1_, *p2_, *p3_;
  int64_t s0_, s1_, s2_, s3_;
  int64_t at_;
  uint64_t inside_;
  __m512i padding_;
};

// V vectors of lanes of L output lines at stride S. Three outputs are under way at once at stride 1, two at stride 2.
template <int S, int L, int V>
void slide_lines(const SlideLine& line) noexcept {
  const Finish<V> f(line.to.out[0]);
  const __m512i i0 = _mm512_loadu_si512(line.to.bias), i1 = V > 1 ? _mm512_loadu_si512(line.to.bias + 16) : i0;
  const int64_t tap = 128 * line.to.lines, step = line.to.out[0].y_row;
  const std::byte* w = line.to.weights;
#define QFX_TAP(k)                                                                                             \
  const __m512i w##k##_00 = _mm512_loadu_si512(w + k * tap), w##k##_01 = _mm512_loadu_si512(w + k * tap + 64); \
  [[maybe_unused]] const __m512i w##k##_10 = _mm512_loadu_si512(w + k * tap + (L - 1) * 128),                  \
                                 w##k##_11 = _mm512_loadu_si512(w + k * tap + (L - 1) * 128 + 64);
  QFX_TAP(0)
  QFX_TAP(1)
  QFX_TAP(2)
#undef QFX_TAP
  uint8_t* y0 = static_cast<uint8_t*>(line.to.out[0].y);
  [[maybe_unused]] uint8_t* y1 = L > 1 ? static_cast<uint8_t*>(line.to.out[1].y) : y0;
  Columns columns(line);
  __m512i d0, d1;
  const auto next = [&]() QFX_INLINE_LAMBDA { V > 1 ? columns.next(d0, d1) : void(d0 = columns.next_16()); };
#define QFX_START(c) c##_00 = i0, c##_01 = i1, c##_10 = i0, c##_11 = i1
#define QFX_ADD(c, k)                                  \
  QFX_DOT(c##_00, d0, w##k##_00);                      \
  if constexpr (V > 1) QFX_DOT(c##_01, d1, w##k##_01); \
  if constexpr (L > 1) QFX_DOT(c##_10, d0, w##k##_10); \
  if constexpr (L > 1 && V > 1) QFX_DOT(c##_11, d1, w##k##_11)
  __m512i a_00, a_01, a_10, a_11, b_00, b_01, b_10, b_11;
  QFX_START(a), QFX_START(b);
  int64_t left = line.to.count;
  if constexpr (S == 1) {
    __m512i c_00, c_01, c_10, c_11;
    QFX_START(c);
    const auto finish = [&](__m512i c00, __m512i c01, __m512i c10, __m512i c11) QFX_INLINE_LAMBDA {
      if constexpr (L > 1) {
        finish_two(f, y0, y1, c00, c01, c10, c11);
      } else {
        finish_row(f, y0, c00, c01, c00, c00);
      }
      y0 += step, y1 += step;
    };
    next();
    QFX_ADD(a, 0);
    next();
    QFX_ADD(a, 1);
    QFX_ADD(b, 0);
#define QFX_OUTPUT(x, y, z)               \
  next();                                 \
  QFX_ADD(x, 2);                          \
  QFX_ADD(y, 1);                          \
  QFX_START(z);                           \
  QFX_ADD(z, 0);                          \
  finish(x##_00, x##_01, x##_10, x##_11); \
  if (--left == 0) return;
    for (;;) {
      QFX_OUTPUT(a, b, c)
      QFX_OUTPUT(b, c, a)
      QFX_OUTPUT(c, a, b)
    }
#undef QFX_OUTPUT
  } else {
    static_assert(S == 2 && L == 1);
    next();
    for (; left > 1; left -= 2, y0 += 2 * step) {
      QFX_START(a);
      QFX_ADD(a, 0);
      next();
      QFX_ADD(a, 1);
      next();
      QFX_ADD(a, 2);
      QFX_START(b);
      QFX_ADD(b, 0);
      next();
      QFX_ADD(b, 1);
      next();
      QFX_ADD(b, 2);
      finish_two(f, y0, y0 + step, a_00, a_01, b_00, b_01);
    }
    if (left == 0) return;
    QFX_START(a);
    QFX_ADD(a, 0);
    next();
    QFX_ADD(a, 1);
    next();
    QFX_ADD(a, 2);
    finish_row(f, y0, a_00, a_01, a_00, a_00);
  }
#undef QFX_ADD
#undef QFX_START
}

template <int S, int L>
void slide_vectors(const SlideLine& line) noexcept {
  return line.to.out[0].columns <= 16 ? slide_lines<S, L, 1>(line) : slide_lines<S, L, 2>(line);
}

void slide(const SlideLine& line, int64_t stride) noexcept {
  if (stride == 2) return slide_vectors<2, 1>(line);
  return line.to.out[1].y == nullptr ? slide_vectors<1, 1>(line) : slide_vectors<1, 2>(line);
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
#define QFX_CONV_SLIDE(name, isa, channels) \
  QFX_IF_##isa(void name(const SlideLine& line, int64_t stride) noexcept { slide(line, stride); })
#define QFX_CONV_AFFINE(name, isa, channels) QFX_IF_##isa(void name(const AffineLine& line) noexcept { affine(line); })
#include "conv/kernels.inc"

}  // namespace qfx::conv
