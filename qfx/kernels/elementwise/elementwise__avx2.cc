#include <immintrin.h>

#include <cstring>

#include "core/requant_avx2.h"
#include "elementwise/kernels.h"

namespace qfx::elementwise {
namespace {

constexpr int32_t kTwo23 = 1 << 23;

__m256i load32(const uint8_t* p) noexcept {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
void store32(uint8_t* p, __m256i v) noexcept {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v);
}
__m128i load8(const uint8_t* p) noexcept {
  return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
}

__m256 widened(const uint8_t* codes, __m256 zero_point) noexcept {
  return _mm256_sub_ps(_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(load8(codes))), zero_point);
}

// 2^23 + code is a float with the code in its low byte. Widening 32 codes takes six interleaves; like the packs
// that narrow the results again they work within 128-bit lanes, so the order comes out right.
struct Widened32 {
  __m256 part[4];

  Widened32(__m256i codes, __m256 two23_plus_zero_point) noexcept {
    const __m256i zero = _mm256_setzero_si256(), exponent = _mm256_set1_epi16(0x4b00);
    const __m256i low = _mm256_unpacklo_epi8(codes, zero), high = _mm256_unpackhi_epi8(codes, zero);
    const __m256i bits[] = {_mm256_unpacklo_epi16(low, exponent), _mm256_unpackhi_epi16(low, exponent),
                            _mm256_unpacklo_epi16(high, exponent), _mm256_unpackhi_epi16(high, exponent)};
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) part[i] = _mm256_sub_ps(_mm256_castsi256_ps(bits[i]), two23_plus_zero_point);
  }
};

template <BinaryOp op>
struct Combine {
  __m256 a_offset, b_offset, a_multiplier, b_multiplier;
  Requantize32 requantize;

  explicit Combine(const BinaryQuant& q) noexcept
      : a_offset(_mm256_set1_ps(static_cast<float>(kTwo23 + q.a_zero_point))),
        b_offset(_mm256_set1_ps(static_cast<float>(kTwo23 + q.b_zero_point))),
        a_multiplier(_mm256_set1_ps(q.a_multiplier)),
        b_multiplier(_mm256_set1_ps(q.b_multiplier)),
        requantize(q.zero_point, q.lo, q.hi) {}

  __m256i one(__m256 a, __m256 b) const noexcept {
    if constexpr (op == BinaryOp::mul) return rounded(_mm256_mul_ps(_mm256_mul_ps(a, b), a_multiplier));
    const __m256 p = _mm256_mul_ps(a, a_multiplier), r = _mm256_mul_ps(b, b_multiplier);
    return rounded(op == BinaryOp::add ? _mm256_add_ps(p, r) : _mm256_sub_ps(p, r));
  }

  void operator()(const uint8_t* a, const uint8_t* b, uint8_t* y) const noexcept {
    const Widened32 p(load32(a), a_offset), r(load32(b), b_offset);
    store32(y, requantize.in_lanes(one(p.part[0], r.part[0]), one(p.part[1], r.part[1]), one(p.part[2], r.part[2]),
                                   one(p.part[3], r.part[3])));
  }
};

template <BinaryOp op>
void binary(const uint8_t* a, const uint8_t* b, uint8_t* y, int64_t n, const BinaryQuant& q) noexcept {
  const Combine<op> combine(q);
  int64_t i = 0;
  for (; i + 32 <= n; i += 32) combine(a + i, b + i, y + i);
  if (i == n) return;
  const size_t rest = static_cast<size_t>(n - i);
  uint8_t p[32] = {}, r[32] = {}, out[32];
  std::memcpy(p, a + i, rest);
  std::memcpy(r, b + i, rest);
  combine(p, r, out);
  std::memcpy(y + i, out, rest);
}

// vpshufb looks up the low nibble in each of the table's 16 rows; the high nibble's bits, moved to bit 7 one
// after the other, halve the candidates.
struct NibbleTable {
  __m256i row[16];

  explicit NibbleTable(const uint8_t* table) noexcept {
    for (int i = 0; i < 16; ++i)
      row[i] = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table + 16 * i)));
  }

  // Rows first..first + 1, chosen by bit 4, which `bit4` has at bit 7; then four, eight and sixteen rows.
  __m256i two(int first, __m256i low, __m256i bit4) const noexcept {
    return _mm256_blendv_epi8(_mm256_shuffle_epi8(row[first], low), _mm256_shuffle_epi8(row[first + 1], low), bit4);
  }
  __m256i four(int first, __m256i low, __m256i bit4, __m256i bit5) const noexcept {
    return _mm256_blendv_epi8(two(first, low, bit4), two(first + 2, low, bit4), bit5);
  }
  __m256i eight(int first, __m256i low, __m256i bit4, __m256i bit5, __m256i bit6) const noexcept {
    return _mm256_blendv_epi8(four(first, low, bit4, bit5), four(first + 4, low, bit4, bit5), bit6);
  }

  __m256i operator()(__m256i x) const noexcept {
    const __m256i low = _mm256_and_si256(x, _mm256_set1_epi8(0x0f));
    const __m256i bit4 = _mm256_slli_epi16(x, 3), bit5 = _mm256_slli_epi16(x, 2), bit6 = _mm256_slli_epi16(x, 1);
    return _mm256_blendv_epi8(eight(0, low, bit4, bit5, bit6), eight(8, low, bit4, bit5, bit6), x);
  }
};

struct QuantizeVectors {
  __m256 reciprocal, low, high, doubt, no_sign;
  __m256d reciprocal64, low64, high64, snap;
  __m256i zero_point;

  explicit QuantizeVectors(const QuantizeParams& p) noexcept
      : reciprocal(_mm256_set1_ps(p.reciprocal)),
        low(_mm256_set1_ps(static_cast<float>(-p.zero_point))),
        high(_mm256_set1_ps(static_cast<float>(255 - p.zero_point))),
        doubt(_mm256_set1_ps(kTieDoubt)),
        no_sign(_mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff))),
        reciprocal64(_mm256_set1_pd(p.reciprocal64)),
        low64(_mm256_set1_pd(-p.zero_point)),
        high64(_mm256_set1_pd(255 - p.zero_point)),
        snap(_mm256_set1_pd(kSnap)),
        zero_point(_mm256_set1_epi32(p.zero_point)) {}

  // Operand order of min and max: a NaN in x passes through both.
  __m256i operator()(__m256 x) const noexcept {
    const __m256 t = _mm256_min_ps(high, _mm256_max_ps(low, _mm256_mul_ps(x, reciprocal)));
    const __m256 whole = _mm256_round_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m256i number = _mm256_castps_si256(_mm256_cmp_ps(t, t, _CMP_ORD_Q));
    const __m256 in_doubt = _mm256_cmp_ps(_mm256_and_ps(_mm256_sub_ps(t, whole), no_sign), doubt, _CMP_GT_OQ);
    const __m256i q = __builtin_expect(_mm256_movemask_ps(in_doubt) != 0, 0) ? exact(x) : _mm256_cvtps_epi32(whole);
    return _mm256_add_epi32(_mm256_and_si256(q, number), zero_point);
  }

 private:
  __m128i exact_half(__m128 x) const noexcept {
    const __m256d t = _mm256_mul_pd(_mm256_cvtps_pd(x), reciprocal64);
    const __m256d clamped = _mm256_min_pd(high64, _mm256_max_pd(low64, t));
    return _mm256_cvtpd_epi32(_mm256_sub_pd(_mm256_add_pd(clamped, snap), snap));
  }

  __attribute__((noinline)) __m256i exact(__m256 x) const noexcept {
    return _mm256_set_m128i(exact_half(_mm256_extractf128_ps(x, 1)), exact_half(_mm256_castps256_ps128(x)));
  }
};

// Lane i is all ones for i < n.
__m256i first_words(int64_t n) noexcept {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

// The first n values, then zeros. No masked load: whether that may fault past the first n is up to the CPU (AMD's
// manual), and qemu's does.
__m256 load_words(const float* x, int64_t n) noexcept {
  if (n >= 8) return _mm256_loadu_ps(x);
  alignas(32) float words[8] = {};
  std::memcpy(words, x, static_cast<size_t>(n) * sizeof(float));
  return _mm256_load_ps(words);
}

// Eight values of 0..255 in order, in the low half.
__m128i narrowed(__m256i q) noexcept {
  const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(q), _mm256_extracti128_si256(q, 1));
  return _mm_packus_epi16(words, words);
}

void store_bytes(uint8_t* y, __m128i v, int64_t n) noexcept {
  alignas(16) uint8_t bytes[16];
  _mm_store_si128(reinterpret_cast<__m128i*>(bytes), v);
  std::memcpy(y, bytes, static_cast<size_t>(n));
}

}  // namespace

void binary_u8_x32__avx2(const uint8_t* a, const uint8_t* b, uint8_t* y, int64_t n, const BinaryQuant& quant) noexcept {
  switch (quant.op) {
    case BinaryOp::add:
      return binary<BinaryOp::add>(a, b, y, n, quant);
    case BinaryOp::sub:
      return binary<BinaryOp::sub>(a, b, y, n, quant);
    case BinaryOp::mul:
      return binary<BinaryOp::mul>(a, b, y, n, quant);
  }
}

void lookup_u8_x32__avx2(const uint8_t* x, uint8_t* y, int64_t n, const uint8_t* table) noexcept {
  int64_t i = 0;
  if (n >= 32) {
    const NibbleTable lookup(table);
    for (; i + 32 <= n; i += 32) store32(y + i, lookup(load32(x + i)));
  }
  for (; i < n; ++i) y[i] = table[x[i]];
}

void quantize_f32_u8_x8__avx2(const float* x, uint8_t* y, int64_t n, const QuantizeParams& params) noexcept {
  const QuantizeVectors quantize(params);
  int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    _mm_storel_epi64(reinterpret_cast<__m128i*>(y + i), narrowed(quantize(_mm256_loadu_ps(x + i))));
  if (i < n) store_bytes(y + i, narrowed(quantize(load_words(x + i, n - i))), n - i);
}

void quantize_planar3_f32_u8_x8__avx2(const float* x, int64_t plane, uint8_t* y, int64_t n,
                                      const QuantizeParams& params) noexcept {
  const QuantizeVectors quantize(params);
  // Three of the four bytes of each double word, then the first 12 bytes of each 128-bit lane.
  const __m256i bytes = _mm256_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1,  //
                                         0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1);
  const __m256i words = _mm256_setr_epi32(0, 1, 2, 4, 5, 6, 3, 7);
  for (int64_t i = 0; i < n; i += 8) {
    const __m256i r = quantize(load_words(x + i, n - i));
    const __m256i g = _mm256_slli_epi32(quantize(load_words(x + plane + i, n - i)), 8);
    const __m256i b = _mm256_slli_epi32(quantize(load_words(x + 2 * plane + i, n - i)), 16);
    const __m256i pixels = _mm256_or_si256(r, _mm256_or_si256(g, b));
    const __m256i packed = _mm256_permutevar8x32_epi32(_mm256_shuffle_epi8(pixels, bytes), words);
    if (i + 8 <= n) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(y + 3 * i), _mm256_castsi256_si128(packed));
      _mm_storel_epi64(reinterpret_cast<__m128i*>(y + 3 * i + 16), _mm256_extracti128_si256(packed, 1));
    } else {
      alignas(32) uint8_t out[32];
      store32(out, packed);
      std::memcpy(y + 3 * i, out, static_cast<size_t>(3 * (n - i)));
    }
  }
}

void dequantize_u8_f32_x8__avx2(const uint8_t* x, float* y, int64_t n, float scale, int32_t zero_point) noexcept {
  const __m256 s = _mm256_set1_ps(scale), z = _mm256_set1_ps(static_cast<float>(zero_point));
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) _mm256_storeu_ps(y + i, _mm256_mul_ps(widened(x + i, z), s));
  if (i == n) return;
  uint8_t rest[8] = {};
  std::memcpy(rest, x + i, static_cast<size_t>(n - i));
  _mm256_maskstore_ps(y + i, first_words(n - i), _mm256_mul_ps(widened(rest, z), s));
}

}  // namespace qfx::elementwise
