#include "core/requant_avx512.h"
#include "fake_quant/vector_kernels.h"

namespace qfx::fake_quant {
namespace {

constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

__mmask16 first_words(int64_t n) noexcept {
  return static_cast<__mmask16>(n >= 16 ? 0xffff : (1 << n) - 1);
}

struct Vector {
  using Floats = __m512;
  struct Doubles {
    __m512d a, b;
  };
  using Mask = __mmask16;

  static Floats all(float v) noexcept { return _mm512_set1_ps(v); }
  static Doubles all(double v) noexcept { return {_mm512_set1_pd(v), _mm512_set1_pd(v)}; }
  static Floats load(const float* p) noexcept { return _mm512_loadu_ps(p); }
  static Floats load(const float* p, int64_t n) noexcept { return _mm512_maskz_loadu_ps(first_words(n), p); }
  static Doubles load(const double* p) noexcept { return {_mm512_loadu_pd(p), _mm512_loadu_pd(p + 8)}; }
  static void store(float* p, Floats v) noexcept { _mm512_storeu_ps(p, v); }
  static void store(float* p, Floats v, int64_t n) noexcept { _mm512_mask_storeu_ps(p, first_words(n), v); }
  static void stream(float* p, Floats v) noexcept { _mm512_stream_ps(p, v); }
  static void store(double* p, Doubles v) noexcept { _mm512_storeu_pd(p, v.a), _mm512_storeu_pd(p + 8, v.b); }

  static Floats add(Floats x, Floats y) noexcept { return _mm512_add_ps(x, y); }
  static Floats sub(Floats x, Floats y) noexcept { return _mm512_sub_ps(x, y); }
  static Floats mul(Floats x, Floats y) noexcept { return _mm512_mul_ps(x, y); }
  static Doubles add(Doubles x, Doubles y) noexcept { return {_mm512_add_pd(x.a, y.a), _mm512_add_pd(x.b, y.b)}; }
  static Doubles sub(Doubles x, Doubles y) noexcept { return {_mm512_sub_pd(x.a, y.a), _mm512_sub_pd(x.b, y.b)}; }
  static Doubles mul(Doubles x, Doubles y) noexcept { return {_mm512_mul_pd(x.a, y.a), _mm512_mul_pd(x.b, y.b)}; }
  static Floats abs(Floats x) noexcept { return _mm512_abs_ps(x); }
  static Floats rint(Floats x) noexcept { return _mm512_roundscale_ps(x, kNearest); }

  // The instructions return their second operand where one is NaN.
  static Floats lower(Floats bound, Floats v) noexcept { return _mm512_max_ps(bound, v); }
  static Floats upper(Floats bound, Floats v) noexcept { return _mm512_min_ps(bound, v); }
  static Floats least(Floats v, Floats sofar) noexcept { return _mm512_min_ps(v, sofar); }
  static Floats greatest(Floats v, Floats sofar) noexcept { return _mm512_max_ps(v, sofar); }
  static Doubles lower(Doubles bound, Doubles v) noexcept {
    return {_mm512_max_pd(bound.a, v.a), _mm512_max_pd(bound.b, v.b)};
  }
  static Doubles upper(Doubles bound, Doubles v) noexcept {
    return {_mm512_min_pd(bound.a, v.a), _mm512_min_pd(bound.b, v.b)};
  }

  static Doubles widen(Floats v) noexcept {
    return {_mm512_cvtps_pd(_mm512_castps512_ps256(v)), _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1))};
  }
  static Floats narrow(Doubles v) noexcept {
    return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(v.a)), _mm512_cvtpd_ps(v.b), 1);
  }

  static Mask less(Floats x, Floats y) noexcept { return _mm512_cmp_ps_mask(x, y, _CMP_LT_OQ); }
  static Mask at_most(Floats x, Floats y) noexcept { return _mm512_cmp_ps_mask(x, y, _CMP_LE_OQ); }
  static Mask equal(Floats x, Floats y) noexcept { return _mm512_cmp_ps_mask(x, y, _CMP_EQ_OQ); }
  static Mask both(Mask x, Mask y) noexcept { return x & y; }
  static Mask either(Mask x, Mask y) noexcept { return x | y; }
  static Mask without(Mask x, Mask y) noexcept { return x & static_cast<Mask>(~y); }
  static bool any(Mask x) noexcept { return x != 0; }
  static uint16_t bits(Mask x) noexcept { return x; }
  static Mask mask(uint16_t bits) noexcept { return bits; }
  static Floats select(Mask mask, Floats v) noexcept { return _mm512_maskz_mov_ps(mask, v); }
};

using Kernels = VectorKernels<Vector>;

template <bool stream>
void mask32(const uint32_t* g, const uint8_t* passed, uint32_t* y, int64_t n) noexcept {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    uint16_t bits;
    std::memcpy(&bits, passed + i / 8, 2);
    const __m512i v = _mm512_maskz_loadu_epi32(bits, g + i);
    if constexpr (stream)
      _mm512_stream_si512(reinterpret_cast<__m512i*>(y + i), v);
    else
      _mm512_storeu_si512(y + i, v);
  }
  if (i == n) return;
  const __mmask16 mask = Kernels::get_bits(passed, i, n) & first_words(n - i);
  _mm512_mask_storeu_epi32(y + i, first_words(n - i), _mm512_maskz_loadu_epi32(mask, g + i));
}

}  // namespace

bool extremes_f32_x16__avx512vnni(const float* x, int64_t n, float* low, float* high) noexcept {
  return Kernels::extremes(x, n, low, high);
}

bool column_extremes_f32_x16__avx512vnni(const float* x, int64_t rows, int64_t columns, float* low,
                                         float* high) noexcept {
  return Kernels::extremes_of_columns(x, rows, columns, low, high);
}

bool quantize_f32_x16__avx512vnni(const float* x, float* y, uint8_t* passed, int64_t n, const Grid& grid,
                                  const Gate& gate, bool stream) noexcept {
  return Kernels::quantize(x, y, passed, n, grid, gate, stream);
}

bool column_quantize_f32_x16__avx512vnni(const float* x, float* y, uint8_t* passed, int64_t n, const Grids& grids,
                                         const Gate& gate) noexcept {
  return Kernels::quantize_columns(x, y, passed, n, grids, gate);
}

void mask_b32_x16__avx512vnni(const uint32_t* g, const uint8_t* passed, uint32_t* y, int64_t n, bool stream) noexcept {
  return stream && reinterpret_cast<uintptr_t>(y) % 64 == 0 ? mask32<true>(g, passed, y, n)
                                                            : mask32<false>(g, passed, y, n);
}

void mask_b16_x32__avx512vnni(const uint16_t* g, const uint8_t* passed, uint16_t* y, int64_t n) noexcept {
  int64_t i = 0;
  for (; i + 32 <= n; i += 32) {
    uint32_t bits;
    std::memcpy(&bits, passed + i / 8, 4);
    _mm512_storeu_si512(y + i, _mm512_maskz_loadu_epi16(bits, g + i));
  }
  for (; i < n; ++i) y[i] = (passed[i / 8] >> (i % 8) & 1) != 0 ? g[i] : uint16_t{0};
}

void learn_f32_x16__avx512vnni(const float* x, const float* g, float* gx, int64_t n, const Grid& grid, const Gate& gate,
                               double* sums) noexcept {
  Kernels::learn(x, g, gx, n, grid, gate, sums);
}

void column_learn_f32_x16__avx512vnni(const float* x, const float* g, float* gx, int64_t n, const Grids& grids,
                                      double* sums, int64_t stride) noexcept {
  Kernels::learn_columns(x, g, gx, n, grids, sums, stride);
}

void widen_bf16_f32_x16__avx512vnni(const uint16_t* x, float* y, int64_t n) noexcept {
  for (int64_t i = 0; i < n; i += 16) {
    const __mmask16 mask = first_words(n - i);
    const __m512i words = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, x + i));
    _mm512_mask_storeu_epi32(y + i, mask, _mm512_slli_epi32(words, 16));
  }
}

void widen_f16_f32_x16__avx512vnni(const uint16_t* x, float* y, int64_t n) noexcept {
  for (int64_t i = 0; i < n; i += 16) {
    const __mmask16 mask = first_words(n - i);
    _mm512_mask_storeu_ps(y + i, mask, _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, x + i)));
  }
}

void narrow_f32_bf16_x16__avx512vnni(const float* x, uint16_t* y, int64_t n) noexcept {
  for (int64_t i = 0; i < n; i += 16) {
    const __mmask16 mask = first_words(n - i);
    const __m512 v = _mm512_maskz_loadu_ps(mask, x + i);
    const __m512i bits = _mm512_castps_si512(v), top = _mm512_srli_epi32(bits, 16);
    const __m512i half = _mm512_add_epi32(_mm512_and_si512(top, _mm512_set1_epi32(1)), _mm512_set1_epi32(0x7fff));
    const __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(bits, half), 16);
    const __m512i quiet = _mm512_or_si512(top, _mm512_set1_epi32(0x40));
    const __m512i words = _mm512_mask_mov_epi32(rounded, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), quiet);
    _mm256_mask_storeu_epi16(y + i, mask, _mm512_cvtepi32_epi16(words));
  }
}

void narrow_f32_f16_x16__avx512vnni(const float* x, uint16_t* y, int64_t n) noexcept {
  for (int64_t i = 0; i < n; i += 16) {
    const __mmask16 mask = first_words(n - i);
    const __m256i words = _mm512_cvtps_ph(_mm512_maskz_loadu_ps(mask, x + i), kNearest);
    _mm256_mask_storeu_epi16(y + i, mask, words);
  }
}

}  // namespace qfx::fake_quant
