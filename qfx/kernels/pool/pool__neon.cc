#include <arm_neon.h>

#include <cstring>

#include "core/requant_neon.h"
#include "pool/kernels.h"

namespace qfx::pool {
namespace {

// The first n (1..15) bytes, then zeros.
uint8x16_t load_part(const uint8_t* p, int64_t n) noexcept {
  uint8_t bytes[16] = {};
  std::memcpy(bytes, p, static_cast<size_t>(n));
  return vld1q_u8(bytes);
}

void store_part(uint8_t* p, uint8x16_t v, int64_t n) noexcept {
  uint8_t bytes[16];
  vst1q_u8(bytes, v);
  std::memcpy(p, bytes, static_cast<size_t>(n));
}

struct Whole {
  uint8x16_t operator()(const uint8_t* p) const noexcept { return vld1q_u8(p); }
};
struct Part {
  int64_t n;
  uint8x16_t operator()(const uint8_t* p) const noexcept { return load_part(p, n); }
};

template <class Tap>
void for_each_tap(const uint8_t* x, const Window& w, Tap&& use) noexcept {
  for (int64_t i = 0; i < w.taps[0]; ++i)
    for (int64_t j = 0; j < w.taps[1]; ++j) {
      const uint8_t* tap = x + i * w.stride[0] + j * w.stride[1];
      for (int64_t k = 0; k < w.taps[2]; ++k, tap += w.stride[2]) use(tap);
    }
}

// Sums of 16 channels: in 16 bits for up to 256 taps, then in 32.
struct Sums16 {
  uint16x8_t low = vdupq_n_u16(0), high = vdupq_n_u16(0);
  uint32x4_t wide[4] = {vdupq_n_u32(0), vdupq_n_u32(0), vdupq_n_u32(0), vdupq_n_u32(0)};
  int pending = 0;

  void add(uint8x16_t codes) noexcept {
    low = vaddw_u8(low, vget_low_u8(codes));
    high = vaddw_high_u8(high, codes);
    if (++pending == 256) widen();
  }

  void widen() noexcept {
    wide[0] = vaddw_u16(wide[0], vget_low_u16(low));
    wide[1] = vaddw_high_u16(wide[1], low);
    wide[2] = vaddw_u16(wide[2], vget_low_u16(high));
    wide[3] = vaddw_high_u16(wide[3], high);
    low = high = vdupq_n_u16(0);
    pending = 0;
  }
};

// What becomes of 16 channels.
struct Maximum {
  template <class Load>
  uint8x16_t operator()(const uint8_t* x, const Window& window, Load load) const noexcept {
    uint8x16_t most = vdupq_n_u8(0);
    for_each_tap(x, window, [&](const uint8_t* tap) { most = vmaxq_u8(most, load(tap)); });
    return most;
  }
};

struct Mean {
  int32x4_t offset;
  float multiplier;
  Requantize requantize;

  explicit Mean(const Average& a) noexcept
      : offset(vdupq_n_s32(static_cast<int32_t>(a.offset))),
        multiplier(a.multiplier),
        requantize(a.zero_point, 0, 255) {}

  float32x4_t value(uint32x4_t sum) const noexcept {
    return vmulq_n_f32(vcvtq_f32_s32(vsubq_s32(vreinterpretq_s32_u32(sum), offset)), multiplier);
  }

  template <class Load>
  uint8x16_t operator()(const uint8_t* x, const Window& window, Load load) const noexcept {
    Sums16 sums;
    for_each_tap(x, window, [&](const uint8_t* tap) { sums.add(load(tap)); });
    sums.widen();
    return requantize(value(sums.wide[0]), value(sums.wide[1]), value(sums.wide[2]), value(sums.wide[3]));
  }
};

template <class Reduce>
void reduce_window(const uint8_t* x, const Window& window, int64_t channels, const Reduce& reduce,
                   uint8_t* y) noexcept {
  int64_t c = 0;
  for (; c + 16 <= channels; c += 16) vst1q_u8(y + c, reduce(x + c, window, Whole{}));
  if (c == channels) return;
  if (channels >= 16) {
    vst1q_u8(y + channels - 16, reduce(x + channels - 16, window, Whole{}));
  } else {
    store_part(y + c, reduce(x + c, window, Part{channels - c}), channels - c);
  }
}

// Eight codes less their zero point.
int16x8_t centered(const uint8_t* p, int32_t zero_point) noexcept {
  return vreinterpretq_s16_u16(vsubl_u8(vld1_u8(p), vdup_n_u8(static_cast<uint8_t>(zero_point))));
}

struct Singles {
  struct Vector {
    float32x4_t part[2];
  };
  static Vector load(const uint8_t* p, int32_t zero_point) noexcept {
    const int16x8_t x = centered(p, zero_point);
    return {vcvtq_f32_s32(vmovl_s16(vget_low_s16(x))), vcvtq_f32_s32(vmovl_high_s16(x))};
  }
  static Vector lerp(const Vector& a, const Vector& b, double weight) noexcept {
    const auto t = static_cast<float>(weight);
    const float s = 1.0f - t;
    Vector v;
    for (int i = 0; i < 2; ++i) v.part[i] = vaddq_f32(vmulq_n_f32(a.part[i], s), vmulq_n_f32(b.part[i], t));
    return v;
  }
  static int16x8_t rounded(const Vector& v) noexcept {
    return vcombine_s16(vqmovn_s32(vcvtnq_s32_f32(v.part[0])), vqmovn_s32(vcvtnq_s32_f32(v.part[1])));
  }
};

struct Doubles {
  struct Vector {
    float64x2_t part[4];
  };
  static Vector load(const uint8_t* p, int32_t zero_point) noexcept {
    const int16x8_t x = centered(p, zero_point);
    const int32x4_t low = vmovl_s16(vget_low_s16(x)), high = vmovl_high_s16(x);
    return {vcvtq_f64_s64(vmovl_s32(vget_low_s32(low))), vcvtq_f64_s64(vmovl_high_s32(low)),
            vcvtq_f64_s64(vmovl_s32(vget_low_s32(high))), vcvtq_f64_s64(vmovl_high_s32(high))};
  }
  static Vector lerp(const Vector& a, const Vector& b, double t) noexcept {
    const double s = 1.0 - t;
    Vector v;
    for (int i = 0; i < 4; ++i) v.part[i] = vaddq_f64(vmulq_n_f64(a.part[i], s), vmulq_n_f64(b.part[i], t));
    return v;
  }
  static int16x8_t rounded(const Vector& v) noexcept {
    const auto narrowed = [](float64x2_t a, float64x2_t b) noexcept {
      return vmovn_s32(vcombine_s32(vmovn_s64(vcvtnq_s64_f64(a)), vmovn_s64(vcvtnq_s64_f64(b))));
    };
    return vcombine_s16(narrowed(v.part[0], v.part[1]), narrowed(v.part[2], v.part[3]));
  }
};

// Eight channels from c on; an axis of weight 0 is not read: lerp(a, b, 0) is a.
template <class A>
uint8x8_t linear_block(const uint8_t* const (&at)[2][2][2], int64_t c, const double* weight, int32_t z) noexcept {
  using Vector = typename A::Vector;
  const auto row = [&](int d, int h) noexcept {
    return A::lerp(A::load(at[d][h][0] + c, z), A::load(at[d][h][1] + c, z), weight[2]);
  };
  const auto plane = [&](int d) noexcept {
    return weight[1] != 0.0 ? A::lerp(row(d, 0), row(d, 1), weight[1]) : row(d, 0);
  };
  const Vector v = weight[0] != 0.0 ? A::lerp(plane(0), plane(1), weight[0]) : plane(0);
  return vqmovun_s16(vqaddq_s16(A::rounded(v), vdupq_n_s16(static_cast<int16_t>(z))));
}

template <class A>
void linear(const Corners& corners, int64_t channels, int32_t zero_point, uint8_t* y) noexcept {
  int64_t c = 0;
  for (; c + 8 <= channels; c += 8) vst1_u8(y + c, linear_block<A>(corners.at, c, corners.weight, zero_point));
  if (c == channels) return;
  const auto rest = static_cast<size_t>(channels - c);
  uint8_t bytes[8][8] = {}, out[8];
  const uint8_t* at[2][2][2];
  for (int i = 0; i < 8; ++i) {
    std::memcpy(bytes[i], corners.at[i >> 2][i >> 1 & 1][i & 1] + c, rest);
    at[i >> 2][i >> 1 & 1][i & 1] = bytes[i];
  }
  vst1_u8(out, linear_block<A>(at, 0, corners.weight, zero_point));
  std::memcpy(y + c, out, rest);
}

}  // namespace

void max_window_u8_x16__neon(const uint8_t* x, const Window& window, int64_t channels, uint8_t* y) noexcept {
  reduce_window(x, window, channels, Maximum{}, y);
}

void average_window_u8_x16__neon(const uint8_t* x, const Window& window, int64_t channels, const Average& average,
                                 uint8_t* y) noexcept {
  reduce_window(x, window, channels, Mean(average), y);
}

int64_t sum_u8_x16__neon(const uint8_t* x, int64_t n) noexcept {
  uint64x2_t sum = vdupq_n_u64(0);
  const auto add = [&](uint8x16_t codes) noexcept { sum = vpadalq_u32(sum, vpaddlq_u16(vpaddlq_u8(codes))); };
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) add(vld1q_u8(x + i));
  if (i < n) add(load_part(x + i, n - i));
  return static_cast<int64_t>(vaddvq_u64(sum));
}

void linear_u8_x8__neon(const Corners& corners, int64_t channels, int32_t zero_point, uint8_t* y) noexcept {
  linear<Doubles>(corners, channels, zero_point, y);
}

void linear_exact_u8_x8__neon(const Corners& corners, int64_t channels, int32_t zero_point, uint8_t* y) noexcept {
  linear<Singles>(corners, channels, zero_point, y);
}

}  // namespace qfx::pool
