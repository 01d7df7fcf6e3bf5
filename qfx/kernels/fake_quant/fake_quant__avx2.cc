#include <immintrin.h>

#include "fake_quant/vector_kernels.h"

namespace qfx::fake_quant {
namespace {

constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

struct Vector {
  struct Floats {
    __m256 a, b;
  };
  struct Doubles {
    __m256d a, b, c, d;
  };
  struct Mask {
    __m256 a, b;
  };

  static Floats all(float v) noexcept { return {_mm256_set1_ps(v), _mm256_set1_ps(v)}; }
  static Doubles all(double v) noexcept {
    const __m256d d = _mm256_set1_pd(v);
    return {d, d, d, d};
  }
  static Floats load(const float* p) noexcept { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
  // No masked load: whether that may fault past the first n is up to the CPU.
  static Floats load(const float* p, int64_t n) noexcept {
    if (n >= 16) return load(p);
    float words[16] = {};
    std::memcpy(words, p, static_cast<size_t>(n) * sizeof(float));
    return load(words);
  }
  static Doubles load(const double* p) noexcept {
    return {_mm256_loadu_pd(p), _mm256_loadu_pd(p + 4), _mm256_loadu_pd(p + 8), _mm256_loadu_pd(p + 12)};
  }
  static void store(float* p, Floats v) noexcept { _mm256_storeu_ps(p, v.a), _mm256_storeu_ps(p + 8, v.b); }
  static void store(float* p, Floats v, int64_t n) noexcept {
    if (n >= 16) return store(p, v);
    float words[16];
    store(words, v);
    std::memcpy(p, words, static_cast<size_t>(n) * sizeof(float));
  }
  static void stream(float* p, Floats v) noexcept { _mm256_stream_ps(p, v.a), _mm256_stream_ps(p + 8, v.b); }
  static void store(double* p, Doubles v) noexcept {
    _mm256_storeu_pd(p, v.a), _mm256_storeu_pd(p + 4, v.b);
    _mm256_storeu_pd(p + 8, v.c), _mm256_storeu_pd(p + 12, v.d);
  }

  static Floats add(Floats x, Floats y) noexcept { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
  static Floats sub(Floats x, Floats y) noexcept { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
  static Floats mul(Floats x, Floats y) noexcept { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
  static Doubles add(Doubles x, Doubles y) noexcept {
    return {_mm256_add_pd(x.a, y.a), _mm256_add_pd(x.b, y.b), _mm256_add_pd(x.c, y.c), _mm256_add_pd(x.d, y.d)};
  }
  static Doubles sub(Doubles x, Doubles y) noexcept {
    return {_mm256_sub_pd(x.a, y.a), _mm256_sub_pd(x.b, y.b), _mm256_sub_pd(x.c, y.c), _mm256_sub_pd(x.d, y.d)};
  }
  static Doubles mul(Doubles x, Doubles y) noexcept {
    return {_mm256_mul_pd(x.a, y.a), _mm256_mul_pd(x.b, y.b), _mm256_mul_pd(x.c, y.c), _mm256_mul_pd(x.d, y.d)};
  }
  static Floats abs(Floats x) noexcept {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return {_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b)};
  }
  static Floats rint(Floats x) noexcept { return {_mm256_round_ps(x.a, kNearest), _mm256_round_ps(x.b, kNearest)}; }

  // The instructions return their second operand where one is NaN.
  static Floats lower(Floats bound, Floats v) noexcept {
    return {_mm256_max_ps(bound.a, v.a), _mm256_max_ps(bound.b, v.b)};
  }
  static Floats upper(Floats bound, Floats v) noexcept {
    return {_mm256_min_ps(bound.a, v.a), _mm256_min_ps(bound.b, v.b)};
  }
  static Floats least(Floats v, Floats sofar) noexcept { return upper(v, sofar); }
  static Floats greatest(Floats v, Floats sofar) noexcept { return lower(v, sofar); }
  static Doubles lower(Doubles bound, Doubles v) noexcept {
    return {_mm256_max_pd(bound.a, v.a), _mm256_max_pd(bound.b, v.b), _mm256_max_pd(bound.c, v.c),
            _mm256_max_pd(bound.d, v.d)};
  }
  static Doubles upper(Doubles bound, Doubles v) noexcept {
    return {_mm256_min_pd(bound.a, v.a), _mm256_min_pd(bound.b, v.b), _mm256_min_pd(bound.c, v.c),
            _mm256_min_pd(bound.d, v.d)};
  }

  static Doubles widen(Floats v) noexcept {
    return {_mm256_cvtps_pd(_mm256_castps256_ps128(v.a)), _mm256_cvtps_pd(_mm256_extractf128_ps(v.a, 1)),
            _mm256_cvtps_pd(_mm256_castps256_ps128(v.b)), _mm256_cvtps_pd(_mm256_extractf128_ps(v.b, 1))};
  }
  static Floats narrow(Doubles v) noexcept {
    return {_mm256_set_m128(_mm256_cvtpd_ps(v.b), _mm256_cvtpd_ps(v.a)),
            _mm256_set_m128(_mm256_cvtpd_ps(v.d), _mm256_cvtpd_ps(v.c))};
  }

  static Mask less(Floats x, Floats y) noexcept {
    return {_mm256_cmp_ps(x.a, y.a, _CMP_LT_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_LT_OQ)};
  }
  static Mask at_most(Floats x, Floats y) noexcept {
    return {_mm256_cmp_ps(x.a, y.a, _CMP_LE_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_LE_OQ)};
  }
  static Mask equal(Floats x, Floats y) noexcept {
    return {_mm256_cmp_ps(x.a, y.a, _CMP_EQ_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_EQ_OQ)};
  }
  static Mask both(Mask x, Mask y) noexcept { return {_mm256_and_ps(x.a, y.a), _mm256_and_ps(x.b, y.b)}; }
  static Mask either(Mask x, Mask y) noexcept { return {_mm256_or_ps(x.a, y.a), _mm256_or_ps(x.b, y.b)}; }
  static Mask without(Mask x, Mask y) noexcept { return {_mm256_andnot_ps(y.a, x.a), _mm256_andnot_ps(y.b, x.b)}; }
  static bool any(Mask x) noexcept { return _mm256_movemask_ps(_mm256_or_ps(x.a, x.b)) != 0; }
  static uint16_t bits(Mask x) noexcept {
    return static_cast<uint16_t>(_mm256_movemask_ps(x.a) | _mm256_movemask_ps(x.b) << 8);
  }
  static Mask mask(uint16_t bits) noexcept {
    const __m256i each = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    const auto expand = [&](int byte) {
      return _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(byte), each), each));
    };
    return {expand(bits & 0xff), expand(bits >> 8)};
  }
  static Floats select(Mask mask, Floats v) noexcept {
    return {_mm256_and_ps(mask.a, v.a), _mm256_and_ps(mask.b, v.b)};
  }
};

using Kernels = VectorKernels<Vector>;

template <bool stream>
void mask32(const float* g, const uint8_t* passed, float* y, int64_t n) noexcept {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    uint16_t bits;
    std::memcpy(&bits, passed + i / 8, 2);
    const Vector::Floats v = Vector::select(Vector::mask(bits), Vector::load(g + i));
    if constexpr (stream)
      Vector::stream(y + i, v);
    else
      Vector::store(y + i, v);
  }
  if (i == n) return;
  const Vector::Mask mask = Vector::mask(Kernels::get_bits(passed, i, n));
  Vector::store(y + i, Vector::select(mask, Vector::load(g + i, n - i)), n - i);
}

__m128i packed(__m256i words) noexcept {
  return _mm_packus_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}

__m128i brain(__m256 v) noexcept {
  const __m256i bits = _mm256_castps_si256(v), top = _mm256_srli_epi32(bits, 16);
  const __m256i half = _mm256_add_epi32(_mm256_and_si256(top, _mm256_set1_epi32(1)), _mm256_set1_epi32(0x7fff));
  const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(bits, half), 16);
  const __m256i quiet = _mm256_or_si256(top, _mm256_set1_epi32(0x40));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
  return packed(_mm256_blendv_epi8(rounded, quiet, nan));
}

// eight(x, y) takes eight values from x to y; what remains goes through copies.
template <class From, class To, class Eight>
void by_eights(const From* x, To* y, int64_t n, const Eight& eight) noexcept {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) eight(x + i, y + i);
  if (i == n) return;
  From rest[8] = {};
  To made[8];
  std::memcpy(rest, x + i, static_cast<size_t>(n - i) * sizeof(From));
  eight(rest, made);
  std::memcpy(y + i, made, static_cast<size_t>(n - i) * sizeof(To));
}

__m128i load_halves(const uint16_t* x) noexcept {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(x));
}

}  // namespace

bool extremes_f32_x16__avx2(const float* x, int64_t n, float* low, float* high) noexcept {
  return Kernels::extremes(x, n, low, high);
}

bool column_extremes_f32_x16__avx2(const float* x, int64_t rows, int64_t columns, float* low, float* high) noexcept {
  return Kernels::extremes_of_columns(x, rows, columns, low, high);
}

bool quantize_f32_x16__avx2(const float* x, float* y, uint8_t* passed, int64_t n, const Grid& grid, const Gate& gate,
                            bool stream) noexcept {
  return Kernels::quantize(x, y, passed, n, grid, gate, stream);
}

bool column_quantize_f32_x16__avx2(const float* x, float* y, uint8_t* passed, int64_t n, const Grids& grids,
                                   const Gate& gate) noexcept {
  return Kernels::quantize_columns(x, y, passed, n, grids, gate);
}

void mask_b32_x16__avx2(const uint32_t* g, const uint8_t* passed, uint32_t* y, int64_t n, bool stream) noexcept {
  // Bits through float registers: nothing is computed with them.
  const auto* from = reinterpret_cast<const float*>(g);
  auto* to = reinterpret_cast<float*>(y);
  return stream && reinterpret_cast<uintptr_t>(y) % 64 == 0 ? mask32<true>(from, passed, to, n)
                                                            : mask32<false>(from, passed, to, n);
}

void mask_b16_x16__avx2(const uint16_t* g, const uint8_t* passed, uint16_t* y, int64_t n) noexcept {
  const __m256i each = _mm256_setr_epi16(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384,
                                         static_cast<int16_t>(0x8000));
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    int16_t bits;
    std::memcpy(&bits, passed + i / 8, 2);
    const __m256i mask = _mm256_cmpeq_epi16(_mm256_and_si256(_mm256_set1_epi16(bits), each), each);
    const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(g + i));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y + i), _mm256_and_si256(v, mask));
  }
  for (; i < n; ++i) y[i] = (passed[i / 8] >> (i % 8) & 1) != 0 ? g[i] : uint16_t{0};
}

void learn_f32_x16__avx2(const float* x, const float* g, float* gx, int64_t n, const Grid& grid, const Gate& gate,
                         double* sums) noexcept {
  Kernels::learn(x, g, gx, n, grid, gate, sums);
}

void column_learn_f32_x16__avx2(const float* x, const float* g, float* gx, int64_t n, const Grids& grids, double* sums,
                                int64_t stride) noexcept {
  Kernels::learn_columns(x, g, gx, n, grids, sums, stride);
}

void widen_bf16_f32_x16__avx2(const uint16_t* x, float* y, int64_t n) noexcept {
  by_eights(x, y, n, [](const uint16_t* from, float* to) {
    const __m256i words = _mm256_slli_epi32(_mm256_cvtepu16_epi32(load_halves(from)), 16);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), words);
  });
}

void widen_f16_f32_x16__avx2(const uint16_t* x, float* y, int64_t n) noexcept {
  by_eights(x, y, n, [](const uint16_t* from, float* to) { _mm256_storeu_ps(to, _mm256_cvtph_ps(load_halves(from))); });
}

void narrow_f32_bf16_x16__avx2(const float* x, uint16_t* y, int64_t n) noexcept {
  by_eights(x, y, n, [](const float* from, uint16_t* to) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), brain(_mm256_loadu_ps(from)));
  });
}

void narrow_f32_f16_x16__avx2(const float* x, uint16_t* y, int64_t n) noexcept {
  by_eights(x, y, n, [](const float* from, uint16_t* to) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_cvtps_ph(_mm256_loadu_ps(from), kNearest));
  });
}

}  // namespace qfx::fake_quant
