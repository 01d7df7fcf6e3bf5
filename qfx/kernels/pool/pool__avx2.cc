#include <cstring>

#include "core/requant_avx2.h"
#include "pool/kernels.h"

namespace qfx::pool {
namespace {

__m256i load32(const uint8_t* p) noexcept {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
void store32(uint8_t* p, __m256i v) noexcept {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v);
}

// The first n (1..31) bytes, then zeros.
__m256i load_part(const uint8_t* p, int64_t n) noexcept {
  alignas(32) uint8_t bytes[32] = {};
  std::memcpy(bytes, p, static_cast<size_t>(n));
  return load32(bytes);
}

void store_part(uint8_t* p, __m256i v, int64_t n) noexcept {
  alignas(32) uint8_t bytes[32];
  store32(bytes, v);
  std::memcpy(p, bytes, static_cast<size_t>(n));
}

struct Whole {
  __m256i operator()(const uint8_t* p) const noexcept { return load32(p); }
};
struct Part {
  int64_t n;
  __m256i operator()(const uint8_t* p) const noexcept { return load_part(p, n); }
};

template <class Load>
__m256i max_32(const uint8_t* x, const Window& w, Load load) noexcept {
  __m256i most = _mm256_setzero_si256();
  for (int64_t i = 0; i < w.taps[0]; ++i)
    for (int64_t j = 0; j < w.taps[1]; ++j) {
      const uint8_t* tap = x + i * w.stride[0] + j * w.stride[1];
      for (int64_t k = 0; k < w.taps[2]; ++k, tap += w.stride[2]) most = _mm256_max_epu8(most, load(tap));
    }
  return most;
}

// Sums of 32 channels: in 16 bits, even and odd channels apart, for up to 256 taps; then in 32 bits, where
// vector k holds channels k, k + 4, k + 8, ...
struct Sums32 {
  __m256i even, odd, quad0, quad1, quad2, quad3;
  int pending = 0;

  Sums32() noexcept : even(_mm256_setzero_si256()), odd(even), quad0(even), quad1(even), quad2(even), quad3(even) {}

  void add(__m256i codes) noexcept {
    even = _mm256_add_epi16(even, _mm256_and_si256(codes, _mm256_set1_epi16(0x00ff)));
    odd = _mm256_add_epi16(odd, _mm256_srli_epi16(codes, 8));
    if (++pending == 256) widen();
  }

  void widen() noexcept {
    const __m256i low = _mm256_set1_epi32(0xffff);
    quad0 = _mm256_add_epi32(quad0, _mm256_and_si256(even, low));
    quad1 = _mm256_add_epi32(quad1, _mm256_and_si256(odd, low));
    quad2 = _mm256_add_epi32(quad2, _mm256_srli_epi32(even, 16));
    quad3 = _mm256_add_epi32(quad3, _mm256_srli_epi32(odd, 16));
    even = odd = _mm256_setzero_si256();
    pending = 0;
  }
};

template <class Load>
Sums32 sum_32(const uint8_t* x, const Window& w, Load load) noexcept {
  Sums32 sums;
  for (int64_t i = 0; i < w.taps[0]; ++i)
    for (int64_t j = 0; j < w.taps[1]; ++j) {
      const uint8_t* tap = x + i * w.stride[0] + j * w.stride[1];
      for (int64_t k = 0; k < w.taps[2]; ++k, tap += w.stride[2]) sums.add(load(tap));
    }
  sums.widen();
  return sums;
}

struct Averager {
  __m256i offset, zero_point;
  __m256 multiplier;

  explicit Averager(const Average& a) noexcept
      : offset(_mm256_set1_epi32(static_cast<int32_t>(a.offset))),
        zero_point(_mm256_set1_epi32(a.zero_point)),
        multiplier(_mm256_set1_ps(a.multiplier)) {}

  __m256i one(__m256i sum) const noexcept {
    const __m256 v = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(sum, offset)), multiplier);
    const __m256 clamped = _mm256_max_ps(v, _mm256_set1_ps(-65536.0f));
    const __m256i q = _mm256_add_epi32(rounded(clamped), zero_point);
    return _mm256_min_epi32(_mm256_max_epi32(q, _mm256_setzero_si256()), _mm256_set1_epi32(255));
  }

  __m256i operator()(const Sums32& s) const noexcept {
    const __m256i low = _mm256_or_si256(one(s.quad0), _mm256_slli_epi32(one(s.quad1), 8));
    const __m256i high = _mm256_or_si256(_mm256_slli_epi32(one(s.quad2), 16), _mm256_slli_epi32(one(s.quad3), 24));
    return _mm256_or_si256(low, high);
  }
};

struct Singles {
  using Vector = __m256;
  static constexpr int64_t kLanes = 8;
  static __m256 set(double v) noexcept { return _mm256_set1_ps(static_cast<float>(v)); }
  static __m256 load(const uint8_t* p, __m256i zero_point) noexcept {
    const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
    return _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_cvtepu8_epi32(bytes), zero_point));
  }
  static __m256 lerp(__m256 a, __m256 b, __m256 t) noexcept {
    return _mm256_add_ps(_mm256_mul_ps(a, _mm256_sub_ps(set(1.0), t)), _mm256_mul_ps(b, t));
  }
  static __m256i to_int(__m256 v) noexcept { return _mm256_cvtps_epi32(v); }
};

struct Doubles {
  using Vector = __m256d;
  static constexpr int64_t kLanes = 4;
  static __m256d set(double v) noexcept { return _mm256_set1_pd(v); }
  static __m256d load(const uint8_t* p, __m256i zero_point) noexcept {
    int32_t four;
    std::memcpy(&four, p, sizeof four);
    const __m128i codes = _mm_cvtepu8_epi32(_mm_cvtsi32_si128(four));
    return _mm256_cvtepi32_pd(_mm_sub_epi32(codes, _mm256_castsi256_si128(zero_point)));
  }
  static __m256d lerp(__m256d a, __m256d b, __m256d t) noexcept {
    return _mm256_add_pd(_mm256_mul_pd(a, _mm256_sub_pd(set(1.0), t)), _mm256_mul_pd(b, t));
  }
  static __m256i to_int(__m256d v) noexcept { return _mm256_zextsi128_si256(_mm256_cvtpd_epi32(v)); }
};

// Eight values in order, saturated to 0..255.
uint64_t narrowed(__m256i q) noexcept {
  const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(q), _mm256_extracti128_si256(q, 1));
  return static_cast<uint64_t>(_mm_cvtsi128_si64(_mm_packus_epi16(words, words)));
}

// kLanes channels from `at`; an axis of weight 0 is not read: lerp(a, b, 0) is a.
template <class A>
uint64_t linear_block(const uint8_t* const (&at)[2][2][2], int64_t c, const double* weight, __m256i z) noexcept {
  using Vector = typename A::Vector;
  const auto row = [&](int d, int h) noexcept {
    return A::lerp(A::load(at[d][h][0] + c, z), A::load(at[d][h][1] + c, z), A::set(weight[2]));
  };
  const auto plane = [&](int d) noexcept {
    return weight[1] != 0.0 ? A::lerp(row(d, 0), row(d, 1), A::set(weight[1])) : row(d, 0);
  };
  const Vector v = weight[0] != 0.0 ? A::lerp(plane(0), plane(1), A::set(weight[0])) : plane(0);
  return narrowed(_mm256_add_epi32(A::to_int(v), z));
}

template <class A>
void linear(const Corners& corners, int64_t channels, int32_t zero_point, uint8_t* y) noexcept {
  constexpr int64_t kLanes = A::kLanes;
  const __m256i z = _mm256_set1_epi32(zero_point);
  int64_t c = 0;
  for (; c + kLanes <= channels; c += kLanes) {
    const uint64_t out = linear_block<A>(corners.at, c, corners.weight, z);
    std::memcpy(y + c, &out, kLanes);
  }
  if (c == channels) return;
  const size_t rest = static_cast<size_t>(channels - c);
  uint8_t bytes[8][kLanes] = {};
  const uint8_t* at[2][2][2];
  for (int i = 0; i < 8; ++i) {
    std::memcpy(bytes[i], corners.at[i >> 2][i >> 1 & 1][i & 1] + c, rest);
    at[i >> 2][i >> 1 & 1][i & 1] = bytes[i];
  }
  const uint64_t out = linear_block<A>(at, 0, corners.weight, z);
  std::memcpy(y + c, &out, rest);
}

}  // namespace

void max_window_u8_x32__avx2(const uint8_t* x, const Window& window, int64_t channels, uint8_t* y) noexcept {
  int64_t c = 0;
  for (; c + 32 <= channels; c += 32) store32(y + c, max_32(x + c, window, Whole{}));
  if (c == channels) return;
  if (channels >= 32) {
    store32(y + channels - 32, max_32(x + channels - 32, window, Whole{}));
  } else {
    store_part(y + c, max_32(x + c, window, Part{channels - c}), channels - c);
  }
}

void average_window_u8_x32__avx2(const uint8_t* x, const Window& window, int64_t channels, const Average& average,
                                 uint8_t* y) noexcept {
  const Averager averager(average);
  int64_t c = 0;
  for (; c + 32 <= channels; c += 32) store32(y + c, averager(sum_32(x + c, window, Whole{})));
  if (c == channels) return;
  if (channels >= 32) {
    store32(y + channels - 32, averager(sum_32(x + channels - 32, window, Whole{})));
  } else {
    store_part(y + c, averager(sum_32(x + c, window, Part{channels - c})), channels - c);
  }
}

int64_t sum_u8_x32__avx2(const uint8_t* x, int64_t n) noexcept {
  const __m256i zero = _mm256_setzero_si256();
  __m256i sum = zero;
  int64_t i = 0;
  for (; i + 32 <= n; i += 32) sum = _mm256_add_epi64(sum, _mm256_sad_epu8(load32(x + i), zero));
  if (i < n) sum = _mm256_add_epi64(sum, _mm256_sad_epu8(load_part(x + i, n - i), zero));
  const __m128i half = _mm_add_epi64(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
  return _mm_cvtsi128_si64(half) + _mm_extract_epi64(half, 1);
}

void linear_u8_x4__avx2(const Corners& corners, int64_t channels, int32_t zero_point, uint8_t* y) noexcept {
  linear<Doubles>(corners, channels, zero_point, y);
}

void linear_exact_u8_x8__avx2(const Corners& corners, int64_t channels, int32_t zero_point, uint8_t* y) noexcept {
  linear<Singles>(corners, channels, zero_point, y);
}

}  // namespace qfx::pool
