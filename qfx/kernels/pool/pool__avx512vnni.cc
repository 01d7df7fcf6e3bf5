#include "core/requant_avx512.h"
#include "pool/kernels.h"

namespace qfx::pool {
namespace {

__m512i load(__mmask64 mask, const uint8_t* p) noexcept {
  return _mm512_maskz_loadu_epi8(mask, p);
}

// A row of `taps` taps; the three of the usual window without a loop.
__m512i max_row(const uint8_t* x, int64_t taps, int64_t stride, __mmask64 mask) noexcept {
  if (taps == 3)
    return _mm512_max_epu8(_mm512_max_epu8(load(mask, x), load(mask, x + stride)), load(mask, x + 2 * stride));
  __m512i most = _mm512_setzero_si512();
  for (int64_t k = 0; k < taps; ++k, x += stride) most = _mm512_max_epu8(most, load(mask, x));
  return most;
}

// y[0..63] under `mask`.
void max_64(const uint8_t* x, const Window& w, __mmask64 mask, uint8_t* y) noexcept {
  __m512i most = _mm512_setzero_si512();
  for (int64_t i = 0; i < w.taps[0]; ++i)
    for (int64_t j = 0; j < w.taps[1]; ++j)
      most = _mm512_max_epu8(most, max_row(x + i * w.stride[0] + j * w.stride[1], w.taps[2], w.stride[2], mask));
  _mm512_mask_storeu_epi8(y, mask, most);
}

void max_256(const uint8_t* x, const Window& w, uint8_t* y) noexcept {
  __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
  for (int64_t i = 0; i < w.taps[0]; ++i)
    for (int64_t j = 0; j < w.taps[1]; ++j) {
      const uint8_t* tap = x + i * w.stride[0] + j * w.stride[1];
      for (int64_t k = 0; k < w.taps[2]; ++k, tap += w.stride[2]) {
        a = _mm512_max_epu8(a, _mm512_loadu_si512(tap));
        b = _mm512_max_epu8(b, _mm512_loadu_si512(tap + 64));
        c = _mm512_max_epu8(c, _mm512_loadu_si512(tap + 128));
        d = _mm512_max_epu8(d, _mm512_loadu_si512(tap + 192));
      }
    }
  _mm512_storeu_si512(y, a);
  _mm512_storeu_si512(y + 64, b);
  _mm512_storeu_si512(y + 128, c);
  _mm512_storeu_si512(y + 192, d);
}

// Sums of 64 channels: in 16 bits, even and odd channels apart, for up to 256 taps; then in 32 bits, where
// vector k holds channels k, k + 4, k + 8, ...
struct Sums64 {
  __m512i even, odd, quad0, quad1, quad2, quad3;
  int pending = 0;

  Sums64() noexcept : even(_mm512_setzero_si512()), odd(even), quad0(even), quad1(even), quad2(even), quad3(even) {}

  void add(__m512i codes) noexcept {
    even = _mm512_add_epi16(even, _mm512_and_si512(codes, _mm512_set1_epi16(0x00ff)));
    odd = _mm512_add_epi16(odd, _mm512_srli_epi16(codes, 8));
    if (++pending == 256) widen();
  }

  void widen() noexcept {
    const __m512i low = _mm512_set1_epi32(0xffff);
    quad0 = _mm512_add_epi32(quad0, _mm512_and_si512(even, low));
    quad1 = _mm512_add_epi32(quad1, _mm512_and_si512(odd, low));
    quad2 = _mm512_add_epi32(quad2, _mm512_srli_epi32(even, 16));
    quad3 = _mm512_add_epi32(quad3, _mm512_srli_epi32(odd, 16));
    even = odd = _mm512_setzero_si512();
    pending = 0;
  }
};

struct Averager {
  __m512i offset, zero_point;
  __m512 multiplier;

  explicit Averager(const Average& a) noexcept
      : offset(_mm512_set1_epi32(static_cast<int32_t>(a.offset))),
        zero_point(_mm512_set1_epi32(a.zero_point)),
        multiplier(_mm512_set1_ps(a.multiplier)) {}

  __m512i one(__m512i sum) const noexcept {
    const __m512 v = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(sum, offset)), multiplier);
    const __m512 clamped = _mm512_max_ps(v, _mm512_set1_ps(-65536.0f));
    const __m512i q = _mm512_add_epi32(rounded(clamped), zero_point);
    return _mm512_min_epi32(_mm512_max_epi32(q, _mm512_setzero_si512()), _mm512_set1_epi32(255));
  }

  __m512i operator()(const Sums64& s) const noexcept {
    const __m512i low = _mm512_or_si512(one(s.quad0), _mm512_slli_epi32(one(s.quad1), 8));
    const __m512i high = _mm512_or_si512(_mm512_slli_epi32(one(s.quad2), 16), _mm512_slli_epi32(one(s.quad3), 24));
    return _mm512_or_si512(low, high);
  }
};

struct Singles {
  using Vector = __m512;
  static constexpr int64_t kLanes = 16;
  static __m512 set(double v) noexcept { return _mm512_set1_ps(static_cast<float>(v)); }
  static __m512 load(const uint8_t* p, __mmask16 mask, __m512i zero_point) noexcept {
    const __m512i codes = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, p));
    return _mm512_cvtepi32_ps(_mm512_sub_epi32(codes, zero_point));
  }
  static __m512 lerp(__m512 a, __m512 b, __m512 t) noexcept {
    return _mm512_add_ps(_mm512_mul_ps(a, _mm512_sub_ps(set(1.0), t)), _mm512_mul_ps(b, t));
  }
  static __m512i to_int(__m512 v) noexcept { return _mm512_cvtps_epi32(v); }
};

struct Doubles {
  using Vector = __m512d;
  static constexpr int64_t kLanes = 8;
  static __m512d set(double v) noexcept { return _mm512_set1_pd(v); }
  static __m512d load(const uint8_t* p, __mmask16 mask, __m512i zero_point) noexcept {
    const __m256i codes = _mm256_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, p));
    return _mm512_cvtepi32_pd(_mm256_sub_epi32(codes, _mm512_castsi512_si256(zero_point)));
  }
  static __m512d lerp(__m512d a, __m512d b, __m512d t) noexcept {
    return _mm512_add_pd(_mm512_mul_pd(a, _mm512_sub_pd(set(1.0), t)), _mm512_mul_pd(b, t));
  }
  static __m512i to_int(__m512d v) noexcept { return _mm512_zextsi256_si512(_mm512_cvtpd_epi32(v)); }
};

// An axis of weight 0 is not read: lerp(a, b, 0) is a.
template <class A>
void linear(const Corners& corners, int64_t channels, int32_t zero_point, uint8_t* y) noexcept {
  using Vector = typename A::Vector;
  const Vector t0 = A::set(corners.weight[0]), t1 = A::set(corners.weight[1]), t2 = A::set(corners.weight[2]);
  const bool two_planes = corners.weight[0] != 0.0, two_rows = corners.weight[1] != 0.0;
  const __m512i z = _mm512_set1_epi32(zero_point);
  for (int64_t c = 0; c < channels; c += A::kLanes) {
    const int64_t n = channels - c < A::kLanes ? channels - c : A::kLanes;
    const __mmask16 mask = static_cast<__mmask16>((1u << n) - 1);
    const auto row = [&](int d, int h) noexcept {
      return A::lerp(A::load(corners.at[d][h][0] + c, mask, z), A::load(corners.at[d][h][1] + c, mask, z), t2);
    };
    const auto plane = [&](int d) noexcept { return two_rows ? A::lerp(row(d, 0), row(d, 1), t1) : row(d, 0); };
    const Vector v = two_planes ? A::lerp(plane(0), plane(1), t0) : plane(0);
    const __m512i q = _mm512_max_epi32(_mm512_add_epi32(A::to_int(v), z), _mm512_setzero_si512());
    _mm_mask_storeu_epi8(y + c, mask, _mm512_cvtusepi32_epi8(q));
  }
}

}  // namespace

void max_window_u8_x64__avx512vnni(const uint8_t* x, const Window& window, int64_t channels, uint8_t* y) noexcept {
  int64_t c = 0;
  for (; c + 256 <= channels; c += 256) max_256(x + c, window, y + c);
  for (; c < channels; c += 64) max_64(x + c, window, first_bytes(channels - c), y + c);
}

void average_window_u8_x64__avx512vnni(const uint8_t* x, const Window& window, int64_t channels, const Average& average,
                                       uint8_t* y) noexcept {
  const Averager averager(average);
  for (int64_t c = 0; c < channels; c += 64) {
    const __mmask64 mask = first_bytes(channels - c);
    Sums64 sums;
    for (int64_t i = 0; i < window.taps[0]; ++i)
      for (int64_t j = 0; j < window.taps[1]; ++j) {
        const uint8_t* tap = x + c + i * window.stride[0] + j * window.stride[1];
        for (int64_t k = 0; k < window.taps[2]; ++k, tap += window.stride[2])
          sums.add(_mm512_maskz_loadu_epi8(mask, tap));
      }
    sums.widen();
    _mm512_mask_storeu_epi8(y + c, mask, averager(sums));
  }
}

int64_t sum_u8_x64__avx512vnni(const uint8_t* x, int64_t n) noexcept {
  const __m512i zero = _mm512_setzero_si512();
  __m512i sum = zero;
  for (int64_t i = 0; i < n; i += 64)
    sum = _mm512_add_epi64(sum, _mm512_sad_epu8(_mm512_maskz_loadu_epi8(first_bytes(n - i), x + i), zero));
  return _mm512_reduce_add_epi64(sum);
}

void linear_u8_x8__avx512vnni(const Corners& corners, int64_t channels, int32_t zero_point, uint8_t* y) noexcept {
  linear<Doubles>(corners, channels, zero_point, y);
}

void linear_exact_u8_x16__avx512vnni(const Corners& corners, int64_t channels, int32_t zero_point,
                                     uint8_t* y) noexcept {
  linear<Singles>(corners, channels, zero_point, y);
}

}  // namespace qfx::pool
