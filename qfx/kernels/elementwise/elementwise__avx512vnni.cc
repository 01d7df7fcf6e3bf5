#include <algorithm>

#include "core/requant_avx512.h"
#include "elementwise/kernels.h"

namespace qfx::elementwise {
namespace {

constexpr int32_t kTwo23 = 1 << 23;

__m512 widened(__m128i codes, __m512 zero_point) noexcept {
  return _mm512_sub_ps(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(codes)), zero_point);
}

// 2^23 + code is a float with the code in its low byte. Widening 64 codes takes six interleaves; like the packs
// that narrow the results again they work within 128-bit lanes, so the order comes out right.
struct Widened64 {
  __m512 part[4];

  Widened64(__m512i codes, __m512 two23_plus_zero_point) noexcept {
    const __m512i zero = _mm512_setzero_si512(), exponent = _mm512_set1_epi16(0x4b00);
    const __m512i low = _mm512_unpacklo_epi8(codes, zero), high = _mm512_unpackhi_epi8(codes, zero);
    const __m512i bits[] = {_mm512_unpacklo_epi16(low, exponent), _mm512_unpackhi_epi16(low, exponent),
                            _mm512_unpacklo_epi16(high, exponent), _mm512_unpackhi_epi16(high, exponent)};
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) part[i] = _mm512_sub_ps(_mm512_castsi512_ps(bits[i]), two23_plus_zero_point);
  }
};

template <BinaryOp op>
struct Combine {
  __m512 a_offset, b_offset, a_multiplier, b_multiplier;
  Requantize64 requantize;

  explicit Combine(const BinaryQuant& q) noexcept
      : a_offset(_mm512_set1_ps(static_cast<float>(kTwo23 + q.a_zero_point))),
        b_offset(_mm512_set1_ps(static_cast<float>(kTwo23 + q.b_zero_point))),
        a_multiplier(_mm512_set1_ps(q.a_multiplier)),
        b_multiplier(_mm512_set1_ps(q.b_multiplier)),
        requantize(q.zero_point, q.lo, q.hi) {}

  __m512i one(__m512 a, __m512 b) const noexcept {
    if constexpr (op == BinaryOp::mul) return rounded(_mm512_mul_ps(_mm512_mul_ps(a, b), a_multiplier));
    const __m512 p = _mm512_mul_ps(a, a_multiplier), r = _mm512_mul_ps(b, b_multiplier);
    return rounded(op == BinaryOp::add ? _mm512_add_ps(p, r) : _mm512_sub_ps(p, r));
  }

  __m512i operator()(__m512i a, __m512i b) const noexcept {
    const Widened64 x(a, a_offset), y(b, b_offset);
    return requantize.in_lanes(one(x.part[0], y.part[0]), one(x.part[1], y.part[1]), one(x.part[2], y.part[2]),
                               one(x.part[3], y.part[3]));
  }
};

// A product whose multiplier keeps it below 2^30: of 16 bits by 16, and nothing to clamp before rounding. Low and high
// halves interleave to 32 bits within 128-bit lanes.
struct BoundedProduct {
  __m512i a_zero_point, b_zero_point;
  __m512 multiplier;
  Requantize64 requantize;

  explicit BoundedProduct(const BinaryQuant& q) noexcept
      : a_zero_point(_mm512_set1_epi16(static_cast<int16_t>(q.a_zero_point))),
        b_zero_point(_mm512_set1_epi16(static_cast<int16_t>(q.b_zero_point))),
        multiplier(_mm512_set1_ps(q.a_multiplier)),
        requantize(q.zero_point, q.lo, q.hi) {}

  static bool applies(const BinaryQuant& q) noexcept {
    return q.op == BinaryOp::mul && q.a_multiplier < 16384.0f && q.a_multiplier > -16384.0f;
  }

  __m512i one(__m512i product) const noexcept {
    return _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_cvtepi32_ps(product), multiplier));
  }

  __m512i operator()(__m512i a, __m512i b) const noexcept {
    const __m512i zero = _mm512_setzero_si512();
    const __m512i a0 = _mm512_sub_epi16(_mm512_unpacklo_epi8(a, zero), a_zero_point);
    const __m512i a1 = _mm512_sub_epi16(_mm512_unpackhi_epi8(a, zero), a_zero_point);
    const __m512i b0 = _mm512_sub_epi16(_mm512_unpacklo_epi8(b, zero), b_zero_point);
    const __m512i b1 = _mm512_sub_epi16(_mm512_unpackhi_epi8(b, zero), b_zero_point);
    const __m512i low0 = _mm512_mullo_epi16(a0, b0), high0 = _mm512_mulhi_epi16(a0, b0);
    const __m512i low1 = _mm512_mullo_epi16(a1, b1), high1 = _mm512_mulhi_epi16(a1, b1);
    return requantize.in_lanes(one(_mm512_unpacklo_epi16(low0, high0)), one(_mm512_unpackhi_epi16(low0, high0)),
                               one(_mm512_unpacklo_epi16(low1, high1)), one(_mm512_unpackhi_epi16(low1, high1)));
  }
};

template <class Combination>
void binary(const uint8_t* a, const uint8_t* b, uint8_t* y, int64_t n, const BinaryQuant& q) noexcept {
  const Combination combine(q);
  int64_t i = 0;
  for (; i + 64 <= n; i += 64)
    _mm512_storeu_si512(y + i, combine(_mm512_loadu_si512(a + i), _mm512_loadu_si512(b + i)));
  if (i == n) return;
  const __mmask64 mask = first_bytes(n - i);
  const __m512i p = _mm512_maskz_loadu_epi8(mask, a + i), r = _mm512_maskz_loadu_epi8(mask, b + i);
  _mm512_mask_storeu_epi8(y + i, mask, combine(p, r));
}

// A table of 256 bytes as 128 words: two two-source word permutes cover it, bit 7 of a code chooses between
// them and bit 0 the byte of the word.
struct WordTable {
  __m512i part[4];

  __m512i words(__m512i codes, __mmask32 upper) const noexcept {
    const __m512i index = _mm512_srli_epi16(codes, 1);
    const __m512i low = _mm512_permutex2var_epi16(part[0], index, part[1]);
    const __m512i high = _mm512_permutex2var_epi16(part[2], index, part[3]);
    return _mm512_mask_mov_epi16(low, upper, high);
  }

  __m512i operator()(__m512i x) const noexcept {
    const __m512i low_byte = _mm512_set1_epi16(0x00ff);
    const __m512i even = _mm512_and_si512(x, low_byte), odd = _mm512_srli_epi16(x, 8);
    const __m512i e = words(even, _mm512_test_epi16_mask(x, _mm512_set1_epi16(0x0080)));
    const __m512i o = words(odd, _mm512_movepi16_mask(x));
    const __mmask32 e_high = _mm512_test_epi16_mask(x, _mm512_set1_epi16(0x0001));
    const __mmask32 o_low = _mm512_testn_epi16_mask(x, _mm512_set1_epi16(0x0100));
    const __m512i to_low = _mm512_mask_srli_epi16(e, e_high, e, 8);
    const __m512i to_high = _mm512_mask_slli_epi16(o, o_low, o, 8);
    return _mm512_ternarylogic_epi32(low_byte, to_low, to_high, 0xca);  // bitwise low_byte ? to_low : to_high
  }
};

struct QuantizeVectors {
  __m512 reciprocal, low, high, doubt;
  __m512d reciprocal64, low64, high64, snap;
  __m512i zero_point;

  explicit QuantizeVectors(const QuantizeParams& p) noexcept
      : reciprocal(_mm512_set1_ps(p.reciprocal)),
        low(_mm512_set1_ps(static_cast<float>(-p.zero_point))),
        high(_mm512_set1_ps(static_cast<float>(255 - p.zero_point))),
        doubt(_mm512_set1_ps(kTieDoubt)),
        reciprocal64(_mm512_set1_pd(p.reciprocal64)),
        low64(_mm512_set1_pd(-p.zero_point)),
        high64(_mm512_set1_pd(255 - p.zero_point)),
        snap(_mm512_set1_pd(kSnap)),
        zero_point(_mm512_set1_epi32(p.zero_point)) {}

  // In the low byte of each double word. A NaN in x passes through min and max (their operand order) and is
  // converted to 0x80000000, so that its low byte is the zero point.
  __m512i operator()(__m512 x) const noexcept {
    const __m512 t = _mm512_min_ps(high, _mm512_max_ps(low, _mm512_mul_ps(x, reciprocal)));
    const __m512 whole = _mm512_roundscale_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __mmask16 in_doubt = _mm512_cmp_ps_mask(_mm512_abs_ps(_mm512_sub_ps(t, whole)), doubt, _CMP_GT_OQ);
    if (__builtin_expect(in_doubt != 0, 0)) return _mm512_add_epi32(exact(x), zero_point);
    return _mm512_add_epi32(_mm512_cvtps_epi32(whole), zero_point);
  }

 private:
  __m256i exact_half(__m256 x) const noexcept {
    const __m512d t = _mm512_mul_pd(_mm512_cvtps_pd(x), reciprocal64);
    const __m512d clamped = _mm512_min_pd(high64, _mm512_max_pd(low64, t));
    return _mm512_cvtpd_epi32(_mm512_sub_pd(_mm512_add_pd(clamped, snap), snap));
  }

  __attribute__((noinline)) __m512i exact(__m512 x) const noexcept {
    const __m256i low_half = exact_half(_mm512_castps512_ps256(x));
    const __m256i high_half = exact_half(_mm512_extractf32x8_ps(x, 1));
    return _mm512_inserti64x4(_mm512_castsi256_si512(low_half), high_half, 1);
  }
};

// 64 at a time. Quotient and what rounding leaves of it are one fused operation each, which is closer than two; a sum
// with kMagic has the integer in its low bits, and grows with its bits as an integer where it is not negative.
struct QuantizeVectors64 {
  static constexpr float kMagic = 0x1.8p23f;
  __m512 reciprocal, magic;
  __m512i doubt, zero_point;

  explicit QuantizeVectors64(const QuantizeParams& p) noexcept
      : reciprocal(_mm512_set1_ps(p.reciprocal)),
        magic(_mm512_set1_ps(kMagic)),
        doubt(_mm512_castps_si512(_mm512_set1_ps(kTieDoubt))),
        zero_point(_mm512_set1_epi16(static_cast<int16_t>(p.zero_point))) {}

  // False, and nothing in `codes`, where one is in doubt, NaN or infinite: these are large as bits too.
  bool operator()(const float* x, uint8_t* codes) const noexcept {
    const __m512i no_sign = _mm512_set1_epi32(0x7fffffff);
    __m512i furthest = _mm512_setzero_si512(), whole[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const __m512 v = _mm512_loadu_ps(x + 16 * i), sum = _mm512_fmadd_ps(v, reciprocal, magic);
      const __m512 rest = _mm512_fmsub_ps(v, reciprocal, _mm512_sub_ps(sum, magic));
      furthest = _mm512_max_epu32(furthest, _mm512_and_si512(_mm512_castps_si512(rest), no_sign));
      const __m512i bits = _mm512_max_epi32(_mm512_castps_si512(sum), _mm512_setzero_si512());
      whole[i] = _mm512_sub_epi32(bits, _mm512_castps_si512(magic));
    }
    if (__builtin_expect(_mm512_cmpgt_epu32_mask(furthest, doubt) != 0, 0)) return false;
    const __m512i low = _mm512_adds_epi16(_mm512_packs_epi32(whole[0], whole[1]), zero_point);
    const __m512i high = _mm512_adds_epi16(_mm512_packs_epi32(whole[2], whole[3]), zero_point);
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    _mm512_storeu_si512(codes, _mm512_permutexvar_epi32(order, _mm512_packus_epi16(low, high)));
    return true;
  }
};

__mmask16 first_words(int64_t n) noexcept {
  return static_cast<__mmask16>(n >= 16 ? 0xffffu : (1u << n) - 1);
}

}  // namespace

void binary_u8_x64__avx512vnni(const uint8_t* a, const uint8_t* b, uint8_t* y, int64_t n,
                               const BinaryQuant& quant) noexcept {
  switch (quant.op) {
    case BinaryOp::add:
      return binary<Combine<BinaryOp::add>>(a, b, y, n, quant);
    case BinaryOp::sub:
      return binary<Combine<BinaryOp::sub>>(a, b, y, n, quant);
    case BinaryOp::mul:
      if (BoundedProduct::applies(quant)) return binary<BoundedProduct>(a, b, y, n, quant);
      return binary<Combine<BinaryOp::mul>>(a, b, y, n, quant);
  }
}

void lookup_u8_x64__avx512vnni(const uint8_t* x, uint8_t* y, int64_t n, const uint8_t* table) noexcept {
  WordTable words;
  for (int i = 0; i < 4; ++i) words.part[i] = _mm512_loadu_si512(table + 64 * i);
  int64_t i = 0;
  for (; i + 64 <= n; i += 64) _mm512_storeu_si512(y + i, words(_mm512_loadu_si512(x + i)));
  if (i == n) return;
  const __mmask64 mask = first_bytes(n - i);
  _mm512_mask_storeu_epi8(y + i, mask, words(_mm512_maskz_loadu_epi8(mask, x + i)));
}

void quantize_f32_u8_x16__avx512vnni(const float* x, uint8_t* y, int64_t n, const QuantizeParams& params) noexcept {
  const QuantizeVectors quantize(params);
  const QuantizeVectors64 quantize64(params);
  int64_t i = 0;
  while (i + 16 <= n) {
    if (i + 64 <= n && quantize64(x + i, y + i)) {
      i += 64;
      continue;
    }
    for (const int64_t end = std::min(i + 64, n - 15); i < end; i += 16)
      _mm_storeu_si128(reinterpret_cast<__m128i*>(y + i), _mm512_cvtepi32_epi8(quantize(_mm512_loadu_ps(x + i))));
  }
  if (i == n) return;
  const __mmask16 mask = first_words(n - i);
  _mm512_mask_cvtepi32_storeu_epi8(y + i, mask, quantize(_mm512_maskz_loadu_ps(mask, x + i)));
}

void quantize_planar3_f32_u8_x16__avx512vnni(const float* x, int64_t plane, uint8_t* y, int64_t n,
                                             const QuantizeParams& params) noexcept {
  const QuantizeVectors quantize(params);
  // Three of the four bytes of each double word, then the first 12 bytes of each 128-bit lane.
  const __m512i bytes = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1));
  const __m512i words = _mm512_setr_epi32(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 3, 7, 11, 15);
  for (int64_t i = 0; i < n; i += 16) {
    const __mmask16 mask = first_words(n - i);
    const __m512i r = quantize(_mm512_maskz_loadu_ps(mask, x + i));
    const __m512i g = _mm512_slli_epi32(quantize(_mm512_maskz_loadu_ps(mask, x + plane + i)), 8);
    const __m512i b = _mm512_slli_epi32(quantize(_mm512_maskz_loadu_ps(mask, x + 2 * plane + i)), 16);
    const __m512i pixels = _mm512_ternarylogic_epi32(r, g, b, 0xfe);  // r | g | b
    const __m512i packed = _mm512_permutexvar_epi32(words, _mm512_shuffle_epi8(pixels, bytes));
    _mm512_mask_storeu_epi8(y + 3 * i, first_bytes(n - i >= 16 ? 48 : 3 * (n - i)), packed);
  }
}

void dequantize_u8_f32_x16__avx512vnni(const uint8_t* x, float* y, int64_t n, float scale,
                                       int32_t zero_point) noexcept {
  const __m512 s = _mm512_set1_ps(scale), z = _mm512_set1_ps(static_cast<float>(zero_point));
  int64_t i = 0;
  for (; i + 16 <= n; i += 16)
    _mm512_storeu_ps(y + i, _mm512_mul_ps(widened(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x + i)), z), s));
  if (i == n) return;
  const __mmask16 mask = first_words(n - i);
  _mm512_mask_storeu_ps(y + i, mask, _mm512_mul_ps(widened(_mm_maskz_loadu_epi8(mask, x + i), z), s));
}

}  // namespace qfx::elementwise
