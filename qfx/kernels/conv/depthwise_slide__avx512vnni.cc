#include <utility>

#include "conv/depthwise_slide.h"
#include "core/kernels_of_level.h"
#include "gemm/finish__avx512vnni.h"

namespace qfx::conv {
namespace {

using namespace gemm;

template <int N, class F>
QFX_INLINE void each(F f) noexcept {
  [&]<int... I>(std::integer_sequence<int, I...>)
      QFX_INLINE_LAMBDA { (f(std::integral_constant<int, I>{}), ...); }(std::make_integer_sequence<int, N>{});
}

struct Zmm {
  using Int = __m512i;
  using Float = __m512;
  static constexpr int kBytes = 64;
  static QFX_INLINE Int load(const void* p) noexcept { return _mm512_loadu_si512(p); }
  static QFX_INLINE Float load_floats(const float* p) noexcept { return _mm512_loadu_ps(p); }
  using Mask = __mmask64;
  // Inline assembly, so that what is loaded stays in its register.
  template <int kAt>
  static QFX_INLINE Int load_once(const std::byte* p) noexcept {
    Int r;
    __asm__("vmovdqa64 %c2(%1), %0" : "=v"(r) : "r"(p), "i"(kAt));
    return r;
  }
  static QFX_INLINE Int load_where(Int other, Mask mask, const uint8_t* p, int64_t at) noexcept {
    __asm__("vmovdqu8 (%1,%2), %0%{%3%}" : "+v"(other) : "r"(p), "r"(at), "Yk"(mask));
    return other;
  }
  static QFX_INLINE Int bytes(uint8_t code) noexcept { return _mm512_set1_epi8(static_cast<char>(code)); }
  static QFX_INLINE Int low8(Int a, Int b) noexcept { return _mm512_unpacklo_epi8(a, b); }
  static QFX_INLINE Int high8(Int a, Int b) noexcept { return _mm512_unpackhi_epi8(a, b); }
  static QFX_INLINE Int low16(Int a, Int b) noexcept { return _mm512_unpacklo_epi16(a, b); }
  static QFX_INLINE Int high16(Int a, Int b) noexcept { return _mm512_unpackhi_epi16(a, b); }
  static QFX_INLINE Int code(Int acc, Float m) noexcept { return rounded(scaled(acc, m)); }
  static QFX_INLINE Int words(Int a, Int b) noexcept { return _mm512_packs_epi32(a, b); }
  static QFX_INLINE Int add(Int a, Int b) noexcept { return _mm512_adds_epi16(a, b); }
  static QFX_INLINE Int codes(Int a, Int b) noexcept { return _mm512_packus_epi16(a, b); }
  static QFX_INLINE Int clamp(Int a, Int lo, Int hi) noexcept { return _mm512_min_epu8(_mm512_max_epu8(a, lo), hi); }
  static QFX_INLINE __m512i widened(Int a) noexcept { return a; }
  static QFX_INLINE Int narrowed(__m512i a) noexcept { return a; }
  static QFX_INLINE Int words_of(int32_t v) noexcept { return _mm512_set1_epi16(static_cast<int16_t>(v)); }
  static QFX_INLINE void store(uint8_t* y, __mmask64 mask, Int a) noexcept { _mm512_mask_storeu_epi8(y, mask, a); }
};

struct Ymm {
  using Int = __m256i;
  using Float = __m256;
  static constexpr int kBytes = 32;
  static QFX_INLINE Int load(const void* p) noexcept { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
  static QFX_INLINE Float load_floats(const float* p) noexcept { return _mm256_loadu_ps(p); }
  using Mask = __mmask32;
  template <int kAt>
  static QFX_INLINE Int load_once(const std::byte* p) noexcept {
    Int r;
    __asm__("vmovdqa64 %c2(%1), %0" : "=v"(r) : "r"(p), "i"(kAt));
    return r;
  }
  static QFX_INLINE Int load_where(Int other, Mask mask, const uint8_t* p, int64_t at) noexcept {
    __asm__("vmovdqu8 (%1,%2), %0%{%3%}" : "+v"(other) : "r"(p), "r"(at), "Yk"(mask));
    return other;
  }
  static QFX_INLINE Int bytes(uint8_t code) noexcept { return _mm256_set1_epi8(static_cast<char>(code)); }
  static QFX_INLINE Int low8(Int a, Int b) noexcept { return _mm256_unpacklo_epi8(a, b); }
  static QFX_INLINE Int high8(Int a, Int b) noexcept { return _mm256_unpackhi_epi8(a, b); }
  static QFX_INLINE Int low16(Int a, Int b) noexcept { return _mm256_unpacklo_epi16(a, b); }
  static QFX_INLINE Int high16(Int a, Int b) noexcept { return _mm256_unpackhi_epi16(a, b); }
  static QFX_INLINE Int code(Int acc, Float m) noexcept {
    return _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_cvtepi32_ps(acc), m));
  }
  static QFX_INLINE Int words(Int a, Int b) noexcept { return _mm256_packs_epi32(a, b); }
  static QFX_INLINE Int add(Int a, Int b) noexcept { return _mm256_adds_epi16(a, b); }
  static QFX_INLINE Int codes(Int a, Int b) noexcept { return _mm256_packus_epi16(a, b); }
  static QFX_INLINE Int clamp(Int a, Int lo, Int hi) noexcept { return _mm256_min_epu8(_mm256_max_epu8(a, lo), hi); }
  static QFX_INLINE __m512i widened(Int a) noexcept { return _mm512_castsi256_si512(a); }
  static QFX_INLINE Int narrowed(__m512i a) noexcept { return _mm512_castsi512_si256(a); }
  static QFX_INLINE Int words_of(int32_t v) noexcept { return _mm256_set1_epi16(static_cast<int16_t>(v)); }
  static QFX_INLINE void store(uint8_t* y, __mmask64 mask, Int a) noexcept {
    _mm256_mask_storeu_epi8(y, static_cast<__mmask32>(mask), a);
  }
};

// A window of K by K at stride S, in vectors R: all four of a chunk (V = 4), or two, whose codes are the lower or the
// upper halves of 16. A step is of kStep outputs, which share the loads of their weights.
template <class R, int K, int S, int V, int kHalf, int kStep>
struct Slide {
  using Int = typename R::Int;
  static constexpr bool kPinned = K == 3 && kStep == 1;
  static constexpr int kUnderWay = (K - 1) / S;  // outputs that have columns before the first of a step

  static constexpr int kDots = slide_dots(K);
  static constexpr int kSums = kUnderWay + kStep;

  QFX_INLINE explicit Slide(const SlideLine& line) noexcept
      : w(line.weights + 2 * kHalf * R::kBytes),
        y(static_cast<uint8_t*>(line.out.y)),
        y_row(line.out.y_row),
        step_bytes(line.step),
        at(line.first * line.step),
        inside(static_cast<uint64_t>(line.columns * line.step)) {
    each<K>([&](auto r) QFX_INLINE_LAMBDA {
      rows[r] = line.lines[r];
      row_mask[r] = (line.outside >> r & 1) != 0 ? typename R::Mask{0} : ~typename R::Mask{0};
    });
    mask = first_bytes(line.out.columns);
    if constexpr (V == 2) mask &= kHalf == 0 ? 0x00ff00ff00ff00ff : 0xff00ff00ff00ff00;
    const Epilogue& e = *line.out.epilogue;
    padding = R::bytes(line.padding);
    lo = R::bytes(static_cast<uint8_t>(e.lo)), hi = R::bytes(static_cast<uint8_t>(e.hi));
    zero_point = R::words_of(e.zero_point);
    identity = e.zero_point == 0 && e.lo == 0 && e.hi == 255;
    lut_pairs = e.lut_pairs;
    lut = e.byte_permutes ? e.lut : nullptr;
    if constexpr (kPinned) {
      each<K>([&](auto k) QFX_INLINE_LAMBDA {
        each<V>([&](auto v) QFX_INLINE_LAMBDA { pinned[k][v] = R::load(w + (k * 4 + v) * R::kBytes); });
      });
    }
    last = padding;
    each<2>([&](auto i) QFX_INLINE_LAMBDA { each<V / 2>([&](auto v) QFX_INLINE_LAMBDA { pair[i][v] = padding; }); });
  }

  // Adds dot product kDot with columns d[0..N) to the sums of outputs kFirst...
  template <int kDot, int kFirst, int N, int D>
  QFX_INLINE void add(const Int (&d)[D][V]) noexcept {
    each<V>([&](auto v) QFX_INLINE_LAMBDA {
      Int weights;
      if constexpr (kPinned) weights = pinned[kDot][v];
      if constexpr (!kPinned) weights = R::template load_once<(kDot * 4 + v) * R::kBytes>(w);
      each<N>([&](auto i) QFX_INLINE_LAMBDA { QFX_DOT(c[(kFirst + i) % kSums][v], d[i][v], weights); });
    });
  }

  static QFX_INLINE void pairs16(Int (&d)[V], const Int (&a)[V / 2], const Int (&b)[V / 2]) noexcept {
    each<V / 2>([&](auto i)
                    QFX_INLINE_LAMBDA { d[2 * i] = R::low16(a[i], b[i]), d[2 * i + 1] = R::high16(a[i], b[i]); });
  }

  static QFX_INLINE void pairs8(Int (&d)[V / 2], Int a, Int b) noexcept {
    if constexpr (V == 4) {
      d[0] = R::low8(a, b), d[1] = R::high8(a, b);
    } else {
      d[0] = kHalf == 0 ? R::low8(a, b) : R::high8(a, b);
    }
  }

  static QFX_INLINE void interleave(Int (&d)[V], Int r0, Int r1, Int r2, Int r3) noexcept {
    Int a[V / 2], b[V / 2];
    pairs8(a, r0, r1);
    pairs8(b, r2, r3);
    pairs16(d, a, b);
  }

  QFX_INLINE Int row(int i, int64_t column) const noexcept {
    return R::load_where(padding, row_mask[i], rows[i], column);
  }

  // A column's first four rows, the last of seven, or the fifth as it is.
  QFX_INLINE void column(int64_t at, Int (&a)[V], [[maybe_unused]] Int (&b)[V], [[maybe_unused]] Int& fifth) noexcept {
    if (__builtin_expect(static_cast<uint64_t>(at) < inside, 1)) {
      const Int r2 = row(2, at);
      interleave(a, row(0, at), row(1, at), r2, K == 3 ? r2 : row(3, at));
      if constexpr (K == 5) fifth = row(4, at);
      if constexpr (K == 7) {
        const Int r6 = row(6, at);
        interleave(b, row(4, at), row(5, at), r6, r6);
      }
    } else {
      each<V>([&](auto v) QFX_INLINE_LAMBDA { a[v] = padding, b[v] = padding; });
      fifth = padding;
    }
  }

  // The columns of kStep outputs that those before them have not had; the sums of the first are in slot kSlot.
  template <int kSlot>
  QFX_INLINE void step(bool all) noexcept {
    constexpr int P = kStep;
    __asm__("" : "+r"(w));  // not to hoist more loads than there are registers
    each<P>([&](auto i) QFX_INLINE_LAMBDA { start(c[(kSlot + kUnderWay + i) % kSums]); });
    Int fifth[P * S];
    each<S>([&](auto r) QFX_INLINE_LAMBDA {
      Int a[P][V], b[P][V];
      each<P>([&](auto i) QFX_INLINE_LAMBDA { column(at + (i * S + r) * step_bytes, a[i], b[i], fifth[i * S + r]); });
      each<kUnderWay + 1>([&](auto m) QFX_INLINE_LAMBDA {
        constexpr int tap = K - S + r - m * S;
        if constexpr (tap >= 0) {
          add<tap, kSlot + m, P>(a);
          if constexpr (K == 7) add<tap + K, kSlot + m, P>(b);
        }
      });
    });
    if constexpr (K == 5) {
      Int q[P][V];
      each<P>([&](auto i) QFX_INLINE_LAMBDA {
        Int latest[V / 2];
        if constexpr (S == 1) {
          pairs8(latest, last, fifth[i]);
          pairs16(q[i], pair[1], latest);
          last = fifth[i];
        } else {
          pairs8(latest, fifth[2 * i], fifth[2 * i + 1]);
          pairs16(q[i], pair[0], latest);
        }
        remember(latest);
      });
      add<5, kSlot, P>(q);
      add<6, kSlot + 1, P>(q);
    }
    at += P * S * step_bytes;
    finish(c[kSlot], 0);
    if constexpr (P > 1) {
      if (all) finish(c[(kSlot + 1) % kSums], 1);
    }
    y += P * y_row;
  }

  QFX_INLINE void remember(const Int (&latest)[V / 2]) noexcept {
    each<V / 2>([&](auto i) QFX_INLINE_LAMBDA { pair[1][i] = pair[0][i], pair[0][i] = latest[i]; });
  }

  // The columns before the first step.
  QFX_INLINE void begin() noexcept {
    each<kUnderWay>([&](auto i) QFX_INLINE_LAMBDA { start(c[i]); });
    each<K - S>([&](auto k) QFX_INLINE_LAMBDA {
      Int a[1][V], b[1][V], fifth;
      column(at + k * step_bytes, a[0], b[0], fifth);
      each<kUnderWay>([&](auto m) QFX_INLINE_LAMBDA {
        constexpr int tap = k - m * S;
        if constexpr (tap >= 0) {
          add<tap, m, 1>(a);
          if constexpr (K == 7) add<tap + K, m, 1>(b);
        }
      });
      if constexpr (K == 5) {
        if constexpr (S == 1 || k % 2 == 0) {
          Int latest[V / 2];
          pairs8(latest, last, fifth);
          if constexpr (k == K - S - 1) {
            Int q[1][V];
            pairs16(q[0], pair[S == 1], latest);
            add<6, 0, 1>(q);
          }
          remember(latest);
        }
        last = fifth;
      }
    });
    at += (K - S) * step_bytes;
  }

  QFX_INLINE void start(Int (&sum)[V]) noexcept {
    each<V>([&](auto v) QFX_INLINE_LAMBDA { sum[v] = R::load(w + (kDots * 4 + v) * R::kBytes); });
  }

  QFX_INLINE void finish(const Int (&sum)[V], int index) noexcept {
    const auto code = [&](int v) QFX_INLINE_LAMBDA {
      return R::code(sum[v], R::load_floats(reinterpret_cast<const float*>(w + (kDots * 4 + 4 + v) * R::kBytes)));
    };
    Int low = R::words(code(0), code(1)), high = low;
    if constexpr (V == 4) high = R::words(code(2), code(3));
    if (!identity) low = R::add(low, zero_point), high = V == 4 ? R::add(high, zero_point) : low;
    Int codes = R::codes(low, high);
    if (!identity) codes = R::clamp(codes, lo, hi);
    if (__builtin_expect(lut_pairs != nullptr, 0)) {
      const __m512i all = R::widened(codes);
      codes = R::narrowed(lut != nullptr ? permuted(all, lut) : lookup_64(all, lut_pairs));
    }
    R::store(y + index * y_row, mask, codes);
  }

  QFX_INLINE void run(int64_t count) noexcept {
    begin();
    for (;;) {
      bool more = true;
      each<kSums / (kSums % kStep == 0 ? kStep : 1)>([&](auto i) QFX_INLINE_LAMBDA {
        if (!more) return;
        step<i * kStep % kSums>(count >= kStep);
        count -= kStep;
        more = count > 0;
      });
      if (!more) return;
    }
  }

  const std::byte* w;
  uint8_t* y;
  int64_t y_row;
  int64_t step_bytes;
  int64_t at;       // bytes from column 0 of x
  uint64_t inside;  // bytes of a line
  const uint8_t* rows[K];
  typename R::Mask row_mask[K];
  __mmask64 mask;
  bool identity;
  const uint8_t* lut_pairs;
  const uint8_t* lut;
  Int padding, lo, hi, zero_point, last, pair[2][V / 2];
  Int pinned[kPinned ? K : 1][V];
  Int c[kSums][V];
};

template <class R, int K, int S, int V, int kStep>
void slide_lines(const SlideLine& line) noexcept {
  Slide<R, K, S, V, 0, kStep>(line).run(line.count);
  if constexpr (V == 2) Slide<R, K, S, V, 1, kStep>(line).run(line.count);
}

// As many sums, columns and weights as there are registers for.
template <class R, int K>
void slide_vectors(const SlideLine& line, int64_t stride) noexcept {
  if constexpr (K == 3) return stride == 1 ? slide_lines<R, K, 1, 4, 1>(line) : slide_lines<R, K, 2, 4, 1>(line);
  if constexpr (K == 5) return stride == 1 ? slide_lines<R, K, 1, 2, 2>(line) : slide_lines<R, K, 2, 4, 2>(line);
  if constexpr (K == 7) return stride == 1 ? slide_lines<R, K, 1, 2, 2>(line) : slide_lines<R, K, 2, 4, 1>(line);
}

template <int K>
void slide(const SlideLine& line, int64_t stride) noexcept {
  const bool wide = slide_lanes(line.out.columns) > 8;
  return wide ? slide_vectors<Zmm, K>(line, stride) : slide_vectors<Ymm, K>(line, stride);
}

}  // namespace

#undef QFX_IF_avx512vnni
#define QFX_IF_avx512vnni(...) __VA_ARGS__
#define QFX_CONV_SLIDE(name, isa, window, channels) \
  QFX_IF_##isa(void name(const SlideLine& line, int64_t stride) noexcept { slide<window>(line, stride); })
#include "conv/kernels.inc"

}  // namespace qfx::conv
