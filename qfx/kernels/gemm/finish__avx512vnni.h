#pragma once
// Epilogues in AVX-512 registers, for *__avx512vnni.cc files only. Everything has internal linkage, so that no
// instruction of this level reaches a baseline object through a merged inline function.

// gcc 12 takes the deliberately undefined operands inside its own intrinsics for uses of uninitialized values.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wunused-function"
#include <immintrin.h>

#include <cstdint>

#include "gemm/epilogue.h"

namespace qfx::gemm {
namespace {

// Not under a sanitizer: what it adds to code that is all in one function takes the compiler many minutes.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define QFX_INLINE inline
#define QFX_INLINE_LAMBDA
#else
#define QFX_INLINE inline __attribute__((always_inline))
#define QFX_INLINE_LAMBDA __attribute__((always_inline))
#endif

// Inline assembly: gcc 12 copies registers around the intrinsic. Clang finds no captures of lambdas in assembly.
#ifdef __clang__
inline void add_dot(__m512i& acc, __m512i a, __m512i b) noexcept {
  acc = _mm512_dpbusd_epi32(acc, a, b);
}
inline void add_dot(__m256i& acc, __m256i a, __m256i b) noexcept {
  acc = _mm256_dpbusd_epi32(acc, a, b);
}
#define QFX_DOT(acc, a, b) add_dot(acc, a, b)
#else
#define QFX_DOT(acc, a, b) __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(a), "v"(b))
#endif

inline __mmask64 first_bytes(int64_t n) noexcept {
  return n >= 64 ? ~__mmask64{0} : (__mmask64{1} << n) - 1;
}
inline __mmask16 first_floats(int64_t n) noexcept {
  return n >= 16 ? 0xffff : n <= 0 ? 0 : static_cast<__mmask16>((1u << n) - 1);
}

// A 256-entry table as words of Epilogue::lut_pairs in four registers: bits 0..5 of a code select the word, bit 7 its
// half of the table, bit 6 its byte.
struct Table {
  explicit Table(const uint8_t* pairs) noexcept
      : t0(_mm512_loadu_si512(pairs)),
        t1(_mm512_loadu_si512(pairs + 64)),
        t2(_mm512_loadu_si512(pairs + 128)),
        t3(_mm512_loadu_si512(pairs + 192)) {}
  // For codes in the low bytes of 32 words, whatever the high bytes.
  QFX_INLINE __m512i words(__m512i codes) const noexcept {
    const __mmask32 upper = _mm512_test_epi16_mask(codes, _mm512_set1_epi16(0x80));
    return _mm512_mask_mov_epi16(_mm512_permutex2var_epi16(t0, codes, t1), upper,
                                 _mm512_permutex2var_epi16(t2, codes, t3));
  }
  // The result in the low byte of each word.
  QFX_INLINE __m512i low(__m512i codes) const noexcept {
    const __m512i w = words(codes);
    return _mm512_mask_srli_epi16(w, _mm512_test_epi16_mask(codes, _mm512_set1_epi16(0x40)), w, 8);
  }
  QFX_INLINE __m512i high(__m512i codes) const noexcept {
    const __m512i w = words(codes);
    return _mm512_mask_slli_epi16(w, _mm512_testn_epi16_mask(codes, _mm512_set1_epi16(0x40)), w, 8);
  }
  __m512i t0, t1, t2, t3;
};

// Not inlined: once a row of a tile, at more than one place.
__attribute__((noinline)) __m512i lookup_64(__m512i codes, const uint8_t* pairs) noexcept {
  const Table table(pairs);
  return _mm512_mask_mov_epi8(table.low(codes), 0xaaaaaaaaaaaaaaaa, table.high(_mm512_srli_epi16(codes, 8)));
}

// The first 32 codes only.
__attribute__((noinline)) __m512i lookup_32(__m512i codes, const uint8_t* pairs) noexcept {
  const __m512i words = _mm512_cvtepu8_epi16(_mm512_castsi512_si256(codes));
  return _mm512_castsi256_si512(_mm512_cvtepi16_epi8(Table(pairs).low(words)));
}

struct Bytes64 {
  uint8_t at[64];
};

// The same with AVX512-VBMI, which not every CPU of this level has: assembly, so that no flag is needed. Inlined: a
// call would spill all accumulators of a tile.
QFX_INLINE __m512i permuted(__m512i codes, const uint8_t* table) noexcept {
  const auto* t = reinterpret_cast<const Bytes64*>(table);
  const auto half = [&](const Bytes64* first) QFX_INLINE_LAMBDA {
    __m512i result = codes;
    __asm__("vpermi2b %2, %1, %0" : "+v"(result) : "v"(_mm512_loadu_si512(first)), "m"(first[1]));
    return result;
  };
  return _mm512_mask_mov_epi8(half(t), _mm512_movepi8_mask(codes), half(t + 2));
}

// The constants of an epilogue in registers, for a panel of V vectors.
template <int V>
struct Finish {
  explicit Finish(const Output& out) noexcept {
    const Epilogue& e = *out.epilogue;
    const auto scale = [&](int v) { return v < V ? _mm512_loadu_ps(out.multiplier + 16 * v) : _mm512_setzero_ps(); };
    m0 = scale(0), m1 = scale(1), m2 = scale(2), m3 = scale(3);
    zero_point = _mm512_set1_epi16(static_cast<int16_t>(e.zero_point));
    lo = _mm512_set1_epi8(static_cast<char>(e.lo));
    hi = _mm512_set1_epi8(static_cast<char>(e.hi));
    order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    columns = first_bytes(out.columns);
    full = out.columns == 16 * V;
    identity = e.zero_point == 0 && e.lo == 0 && e.hi == 255;
    lut_pairs = e.lut_pairs;
    lut = e.byte_permutes ? e.lut : nullptr;
  }
  __m512 m0, m1, m2, m3;
  __m512i zero_point, lo, hi, order;
  __mmask64 columns;
  bool full;
  bool identity;  // saturation is all the clamping there is
  const uint8_t* lut_pairs;
  const uint8_t* lut;  // only where bytes can be permuted
};

QFX_INLINE __m512 scaled(__m512i acc, __m512 m) noexcept {
  return _mm512_mul_ps(_mm512_cvtepi32_ps(acc), m);
}

// For v < 2^31; below -2^31 the conversion gives the least s32, as good as any other that saturates.
QFX_INLINE __m512i rounded(__m512 v) noexcept {
  return _mm512_cvtps_epi32(v);
}

inline __m512i clamped(__m512 v) noexcept {
  return rounded(_mm512_max_ps(_mm512_set1_ps(-65536.0f), _mm512_min_ps(_mm512_set1_ps(65536.0f), v)));
}

// Two vectors of s32 to 32 words with the zero point added. Saturation at each narrowing equals the clamp of
// requantize().
template <int V>
QFX_INLINE __m512i words(const Finish<V>& f, __m512i q0, __m512i q1) noexcept {
  const __m512i packed = _mm512_packs_epi32(q0, q1);
  return f.identity ? packed : _mm512_adds_epi16(packed, f.zero_point);
}

// To 64 codes (of which kWanted matter), in the order of the accumulators, through the table.
template <int kWanted, int V>
QFX_INLINE __m512i bytes(const Finish<V>& f, __m512i words01, __m512i words23) noexcept {
  __m512i codes = _mm512_permutexvar_epi32(f.order, _mm512_packus_epi16(words01, words23));
  if (!f.identity) codes = _mm512_min_epu8(_mm512_max_epu8(codes, f.lo), f.hi);
  if (__builtin_expect(f.lut_pairs == nullptr, 1)) return codes;
  if (f.lut != nullptr) return permuted(codes, f.lut);
  return kWanted > 32 ? lookup_64(codes, f.lut_pairs) : lookup_32(codes, f.lut_pairs);
}

template <int V>
QFX_INLINE __m512i narrow(const Finish<V>& f, __m512i q0, __m512i q1, __m512i q2, __m512i q3) noexcept {
  const __m512i words01 = words(f, q0, V > 1 ? q1 : q0);
  return bytes<16 * V>(f, words01, V > 2 ? words(f, q2, V > 3 ? q3 : q2) : words01);
}

template <int V>
QFX_INLINE void store(const Finish<V>& f, uint8_t* y, __m512i bytes) noexcept {
  if (!f.full) {
    _mm512_mask_storeu_epi8(y, f.columns, bytes);
  } else if constexpr (V == 4) {
    _mm512_storeu_si512(y, bytes);
  } else if constexpr (V == 3) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y), _mm512_castsi512_si256(bytes));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(y + 32), _mm512_extracti32x4_epi32(bytes, 2));
  } else if constexpr (V == 2) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y), _mm512_castsi512_si256(bytes));
  } else {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(y), _mm512_castsi512_si128(bytes));
  }
}

template <int V>
QFX_INLINE void finish_row(const Finish<V>& f, uint8_t* y, __m512i c0, __m512i c1, __m512i c2, __m512i c3) noexcept {
  const auto code = [&](__m512i c, __m512 m) QFX_INLINE_LAMBDA { return rounded(scaled(c, m)); };
  store(
      f, y,
      narrow(f, code(c0, f.m0), V > 1 ? code(c1, f.m1) : c1, V > 2 ? code(c2, f.m2) : c2, V > 3 ? code(c3, f.m3) : c3));
}

// The residual's share of v.
struct Residual {
  explicit Residual(const Epilogue& e) noexcept
      : zero_point(_mm512_set1_epi32(e.residual_zero_point)), ratio(_mm512_set1_ps(e.residual_multiplier)) {}
  QFX_INLINE __m512 share(__m128i codes) const noexcept {
    return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_cvtepu8_epi32(codes), zero_point)), ratio);
  }
  __m512i zero_point;
  __m512 ratio;
};

template <int V, bool kFull>
QFX_INLINE void finish_row_residual(const Finish<V>& f, const Residual& r, uint8_t* y, const uint8_t* residual,
                                    __m512i c0, __m512i c1, __m512i c2, __m512i c3) noexcept {
  const auto code = [&](int v, __m512i c, __m512 m) QFX_INLINE_LAMBDA {
    const __m128i codes = kFull ? _mm_loadu_si128(reinterpret_cast<const __m128i*>(residual) + v)
                                : _mm_maskz_loadu_epi8(static_cast<__mmask16>(f.columns >> 16 * v), residual + 16 * v);
    return rounded(_mm512_add_ps(scaled(c, m), r.share(codes)));
  };
  store(f, y,
        narrow(f, code(0, c0, f.m0), V > 1 ? code(1, c1, f.m1) : c1, V > 2 ? code(2, c2, f.m2) : c2,
               V > 3 ? code(3, c3, f.m3) : c3));
}

// Whether values end as f32 in registers: V whole vectors, without codes to add or biases of rows.
template <int V>
bool is_plain_f32(const Output& out) noexcept {
  return out.epilogue->f32_output && out.columns == 16 * V && out.row_bias == nullptr && out.residual == nullptr;
}

// The ending of those for one vector of columns; see FinishPlainDynamic.
struct FinishPlainF32 {
  QFX_INLINE FinishPlainF32(const Output& out, int64_t row, int v) noexcept
      : y(static_cast<float*>(out.y) + row * out.y_row + 16 * v),
        y_row(out.y_row),
        scales(_mm512_loadu_ps(out.multiplier + 16 * v)),
        addend(out.addend == nullptr ? nullptr : out.addend + row * out.addend_row + 16 * v),
        addend_row(out.addend_row),
        lo(_mm512_set1_ps(out.epilogue->f32_lo)),
        hi(_mm512_set1_ps(out.epilogue->f32_hi)) {}

  QFX_INLINE void operator()(int64_t r, __m512i acc) const noexcept {
    __m512 value = scaled(acc, scales);
    if (addend != nullptr) value = _mm512_add_ps(value, _mm512_loadu_ps(addend + r * addend_row));
    // In this order max and min treat a zero of either sign as std::max and std::min do, and keep NaN.
    _mm512_storeu_ps(y + r * y_row, _mm512_min_ps(hi, _mm512_max_ps(lo, value)));
  }

  float* y;
  int64_t y_row;
  __m512 scales;
  const float* addend;
  int64_t addend_row;
  __m512 lo, hi;
};

// Whether rows that were quantized as they came end in registers: V whole vectors, and weights without zero points.
template <int V>
bool is_plain_dynamic(const Output& out) noexcept {
  return out.columns == 16 * V && out.dynamic.column_zero_point == nullptr;
}

// And whether nothing is added, nor clamped, and all rows have the scale and the zero point of the first.
inline bool is_uniform(const Output& out) noexcept {
  const bool clamps = out.epilogue->f32_lo != -__builtin_inff() || out.epilogue->f32_hi != __builtin_inff();
  return out.dynamic.uniform && out.addend == nullptr && !clamps;
}

// The ending of those for one vector of columns. kUniform: is_uniform(). All that it reads is in variables of its own:
// else stores of vectors, which may alias anything, have it read again.
template <bool kUniform>
struct FinishPlainDynamic {
  QFX_INLINE FinishPlainDynamic(const Output& out, int64_t row, int v) noexcept
      : y(static_cast<float*>(out.y) + row * out.y_row + 16 * v),
        y_row(out.y_row),
        scale(out.dynamic.scale + row),
        zero_point(out.dynamic.zero_point + row),
        sums(_mm512_loadu_si512(out.dynamic.column_sum + 16 * v)),
        scales(_mm512_loadu_ps(out.multiplier + 16 * v)),
        bias(_mm512_loadu_ps(out.dynamic.bias + 16 * v)),
        addend(out.addend == nullptr ? nullptr : out.addend + row * out.addend_row + 16 * v),
        addend_row(out.addend_row),
        lo(_mm512_set1_ps(out.epilogue->f32_lo)),
        hi(_mm512_set1_ps(out.epilogue->f32_hi)) {
    take(0);
  }

  QFX_INLINE void take(int64_t r) noexcept {
    offset = _mm512_mullo_epi32(sums, _mm512_set1_epi32(zero_point[r]));
    m = _mm512_mul_ps(_mm512_set1_ps(scale[r]), scales);
  }

  QFX_INLINE void operator()(int64_t r, __m512i acc) noexcept {
    if constexpr (!kUniform) take(r);
    __m512 value = _mm512_add_ps(scaled(_mm512_sub_epi32(acc, offset), m), bias);
    if constexpr (!kUniform) {
      if (addend != nullptr) value = _mm512_add_ps(value, _mm512_loadu_ps(addend + r * addend_row));
      value = _mm512_min_ps(hi, _mm512_max_ps(lo, value));  // in this order: see finish_dynamic()
    }
    _mm512_storeu_ps(y + r * y_row, value);
  }

  float* y;
  int64_t y_row;
  const float* scale;
  const int32_t* zero_point;
  __m512i sums, offset;
  __m512 scales, bias, m;
  const float* addend;
  int64_t addend_row;
  __m512 lo, hi;
};

// One row that was quantized as it came, from accumulators in memory.
__attribute__((noinline)) void finish_dynamic(const Output& out, int64_t row, const int32_t* acc) noexcept {
  const Dynamic& d = out.dynamic;
  const __m512i zero_point = _mm512_set1_epi32(d.zero_point[row]);
  const __m512 scale = _mm512_set1_ps(d.scale[row]);
  const __m512 lo = _mm512_set1_ps(out.epilogue->f32_lo), hi = _mm512_set1_ps(out.epilogue->f32_hi);
  for (int64_t first = 0; first < out.columns; first += 16) {
    const __mmask16 mask = first_floats(out.columns - first);
    __m512i s = _mm512_loadu_si512(acc + first);
    if (d.column_zero_point != nullptr) {
      const __m512i z = _mm512_loadu_si512(d.column_zero_point + first);
      s = _mm512_sub_epi32(s, _mm512_mullo_epi32(z, _mm512_set1_epi32(d.row_sum[row])));
    }
    s = _mm512_sub_epi32(s, _mm512_mullo_epi32(_mm512_loadu_si512(d.column_sum + first), zero_point));
    const __m512 m = _mm512_mul_ps(scale, _mm512_loadu_ps(out.multiplier + first));
    __m512 v = _mm512_add_ps(scaled(s, m), _mm512_loadu_ps(d.bias + first));
    if (out.addend != nullptr) {
      v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(mask, out.addend + row * out.addend_row + first));
    }
    // In this order max and min treat a zero of either sign as std::max and std::min do, and keep NaN.
    v = _mm512_min_ps(hi, _mm512_max_ps(lo, v));
    float* y = static_cast<float*>(out.y) + row * out.y_row + first;
    // What a mask stores can't be read again before it is in the cache.
    out.columns - first >= 16 ? _mm512_storeu_ps(y, v) : _mm512_mask_storeu_ps(y, mask, v);
  }
}

// Any epilogue of one row, from accumulators in memory.
__attribute__((noinline)) void finish_general(const Output& out, int64_t row, const int32_t* acc) noexcept {
  if (out.dynamic.scale != nullptr) return finish_dynamic(out, row, acc);
  const Epilogue& e = *out.epilogue;
  const Residual share(e);
  const __m512i row_bias = _mm512_set1_epi32(out.row_bias != nullptr ? out.row_bias[row] : 0);
  for (int64_t first = 0; first < out.columns; first += 16) {
    const __mmask16 mask = first_floats(out.columns - first);
    const __m512i sum = _mm512_add_epi32(_mm512_loadu_si512(acc + first), row_bias);
    __m512 v = scaled(sum, _mm512_maskz_loadu_ps(mask, out.multiplier + first));
    if (out.residual != nullptr) {
      v = _mm512_add_ps(v, share.share(_mm_maskz_loadu_epi8(mask, out.residual + row * out.residual_row + first)));
    }
    if (e.f32_output) {
      if (out.addend != nullptr) {
        v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(mask, out.addend + row * out.addend_row + first));
      }
      // In this order max and min treat a zero of either sign as std::max and std::min do.
      v = _mm512_min_ps(_mm512_set1_ps(e.f32_hi), _mm512_max_ps(_mm512_set1_ps(e.f32_lo), v));
      float* y = static_cast<float*>(out.y) + row * out.y_row + first;
      out.columns - first >= 16 ? _mm512_storeu_ps(y, v) : _mm512_mask_storeu_ps(y, mask, v);
      continue;
    }
    const __m512i q = _mm512_add_epi32(clamped(v), _mm512_set1_epi32(e.zero_point));
    const __m512i code = _mm512_min_epi32(_mm512_max_epi32(q, _mm512_set1_epi32(e.lo)), _mm512_set1_epi32(e.hi));
    uint8_t* y = static_cast<uint8_t*>(out.y) + row * out.y_row + first;
    const __m512i bytes = _mm512_castsi128_si512(_mm512_cvtepi32_epi8(code));
    _mm_mask_storeu_epi8(y, mask,
                         _mm512_castsi512_si128(e.lut_pairs == nullptr ? bytes : lookup_32(bytes, e.lut_pairs)));
  }
}

}  // namespace
}  // namespace qfx::gemm
