#include <arm_neon.h>

#include <cstring>

#include "core/requant_neon.h"
#include "elementwise/kernels.h"

namespace qfx::elementwise {
namespace {

// The first n (1..15) bytes, then zeros.
uint8x16_t load_part(const uint8_t* p, size_t n) noexcept {
  uint8_t bytes[16] = {};
  std::memcpy(bytes, p, n);
  return vld1q_u8(bytes);
}

void store_part(uint8_t* p, uint8x16_t v, size_t n) noexcept {
  uint8_t bytes[16];
  vst1q_u8(bytes, v);
  std::memcpy(p, bytes, n);
}

// The first n (1..8) values, then zeros.
float32x4x2_t load_words(const float* x, int64_t n) noexcept {
  if (n >= 8) return {{vld1q_f32(x), vld1q_f32(x + 4)}};
  float words[8] = {};
  std::memcpy(words, x, static_cast<size_t>(n) * sizeof(float));
  return {{vld1q_f32(words), vld1q_f32(words + 4)}};
}

// Sixteen codes less their zero point.
struct Centered16 {
  int16x8_t low, high;

  Centered16(uint8x16_t codes, uint8x16_t zero_point) noexcept
      : low(vreinterpretq_s16_u16(vsubl_u8(vget_low_u8(codes), vget_low_u8(zero_point)))),
        high(vreinterpretq_s16_u16(vsubl_high_u8(codes, zero_point))) {}

  float32x4x4_t floats() const noexcept {
    return {{vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))), vcvtq_f32_s32(vmovl_high_s16(low)),
             vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))), vcvtq_f32_s32(vmovl_high_s16(high))}};
  }
};

// s16 products are exact in s32, and those of centred codes in float32.
float32x4x4_t product(const Centered16& a, const Centered16& b) noexcept {
  return {{vcvtq_f32_s32(vmull_s16(vget_low_s16(a.low), vget_low_s16(b.low))),
           vcvtq_f32_s32(vmull_high_s16(a.low, b.low)),
           vcvtq_f32_s32(vmull_s16(vget_low_s16(a.high), vget_low_s16(b.high))),
           vcvtq_f32_s32(vmull_high_s16(a.high, b.high))}};
}

template <BinaryOp op>
struct Combine {
  uint8x16_t a_zero_point, b_zero_point;
  float a_multiplier, b_multiplier;
  Requantize requantize;

  explicit Combine(const BinaryQuant& q) noexcept
      : a_zero_point(vdupq_n_u8(static_cast<uint8_t>(q.a_zero_point))),
        b_zero_point(vdupq_n_u8(static_cast<uint8_t>(q.b_zero_point))),
        a_multiplier(q.a_multiplier),
        b_multiplier(q.b_multiplier),
        requantize(q.zero_point, q.lo, q.hi) {}

  float32x4_t sum(float32x4_t a, float32x4_t b) const noexcept {
    const float32x4_t p = vmulq_n_f32(a, a_multiplier), r = vmulq_n_f32(b, b_multiplier);
    return op == BinaryOp::add ? vaddq_f32(p, r) : vsubq_f32(p, r);
  }

  uint8x16_t operator()(uint8x16_t a, uint8x16_t b) const noexcept {
    const Centered16 p(a, a_zero_point), r(b, b_zero_point);
    if constexpr (op == BinaryOp::mul) {
      const float32x4x4_t v = product(p, r);
      return requantize(vmulq_n_f32(v.val[0], a_multiplier), vmulq_n_f32(v.val[1], a_multiplier),
                        vmulq_n_f32(v.val[2], a_multiplier), vmulq_n_f32(v.val[3], a_multiplier));
    } else {
      const float32x4x4_t v = p.floats(), w = r.floats();
      return requantize(sum(v.val[0], w.val[0]), sum(v.val[1], w.val[1]), sum(v.val[2], w.val[2]),
                        sum(v.val[3], w.val[3]));
    }
  }
};

template <BinaryOp op>
void binary(const uint8_t* a, const uint8_t* b, uint8_t* y, int64_t n, const BinaryQuant& q) noexcept {
  const Combine<op> combine(q);
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) vst1q_u8(y + i, combine(vld1q_u8(a + i), vld1q_u8(b + i)));
  if (i == n) return;
  const auto rest = static_cast<size_t>(n - i);
  store_part(y + i, combine(load_part(a + i, rest), load_part(b + i, rest)), rest);
}

// tbl gives zero for an index past its 64 entries, and tbx keeps what was there.
struct Table {
  uint8x16x4_t quarter[4];

  explicit Table(const uint8_t* table) noexcept {
    for (int i = 0; i < 4; ++i) quarter[i] = vld1q_u8_x4(table + 64 * i);
  }

  uint8x16_t operator()(uint8x16_t x) const noexcept {
    const uint8x16_t next = vdupq_n_u8(64);
    uint8x16_t y = vqtbl4q_u8(quarter[0], x);
    y = vqtbx4q_u8(y, quarter[1], x = vsubq_u8(x, next));
    y = vqtbx4q_u8(y, quarter[2], x = vsubq_u8(x, next));
    return vqtbx4q_u8(y, quarter[3], vsubq_u8(x, next));
  }
};

struct QuantizeVectors {
  float32x4_t reciprocal, low, high, doubt;
  float64x2_t reciprocal64, low64, high64, snap;
  int16x8_t zero_point;

  explicit QuantizeVectors(const QuantizeParams& p) noexcept
      : reciprocal(vdupq_n_f32(p.reciprocal)),
        low(vdupq_n_f32(static_cast<float>(-p.zero_point))),
        high(vdupq_n_f32(static_cast<float>(255 - p.zero_point))),
        doubt(vdupq_n_f32(kTieDoubt)),
        reciprocal64(vdupq_n_f64(p.reciprocal64)),
        low64(vdupq_n_f64(-p.zero_point)),
        high64(vdupq_n_f64(255 - p.zero_point)),
        snap(vdupq_n_f64(kSnap)),
        zero_point(vdupq_n_s16(static_cast<int16_t>(p.zero_point))) {}

  uint8x8_t operator()(const float32x4x2_t& x) const noexcept {
    const int16x8_t q = vcombine_s16(vmovn_s32(rounded(x.val[0])), vmovn_s32(rounded(x.val[1])));
    return vmovn_u16(vreinterpretq_u16_s16(vaddq_s16(q, zero_point)));
  }

 private:
  // fmin and fmax pass a NaN on, and its conversion is 0.
  int32x4_t rounded(float32x4_t x) const noexcept {
    const float32x4_t t = vminq_f32(high, vmaxq_f32(low, vmulq_f32(x, reciprocal)));
    const float32x4_t whole = vrndnq_f32(t);
    const uint32x4_t in_doubt = vcgtq_f32(vabdq_f32(t, whole), doubt);
    if (__builtin_expect(vmaxvq_u32(in_doubt) != 0, 0)) return exact(x);
    return vcvtnq_s32_f32(whole);
  }

  int32x2_t exact_half(float64x2_t x) const noexcept {
    const float64x2_t clamped = vminq_f64(high64, vmaxq_f64(low64, vmulq_f64(x, reciprocal64)));
    return vmovn_s64(vcvtnq_s64_f64(vsubq_f64(vaddq_f64(clamped, snap), snap)));
  }

  __attribute__((noinline)) int32x4_t exact(float32x4_t x) const noexcept {
    return vcombine_s32(exact_half(vcvt_f64_f32(vget_low_f32(x))), exact_half(vcvt_high_f64_f32(x)));
  }
};

}  // namespace

void binary_u8_x16__neon(const uint8_t* a, const uint8_t* b, uint8_t* y, int64_t n, const BinaryQuant& quant) noexcept {
  switch (quant.op) {
    case BinaryOp::add:
      return binary<BinaryOp::add>(a, b, y, n, quant);
    case BinaryOp::sub:
      return binary<BinaryOp::sub>(a, b, y, n, quant);
    case BinaryOp::mul:
      return binary<BinaryOp::mul>(a, b, y, n, quant);
  }
}

void lookup_u8_x16__neon(const uint8_t* x, uint8_t* y, int64_t n, const uint8_t* table) noexcept {
  int64_t i = 0;
  if (n >= 16) {
    const Table lookup(table);
    for (; i + 16 <= n; i += 16) vst1q_u8(y + i, lookup(vld1q_u8(x + i)));
  }
  for (; i < n; ++i) y[i] = table[x[i]];
}

void quantize_f32_u8_x8__neon(const float* x, uint8_t* y, int64_t n, const QuantizeParams& params) noexcept {
  const QuantizeVectors quantize(params);
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) vst1_u8(y + i, quantize(load_words(x + i, 8)));
  if (i == n) return;
  uint8_t rest[8];
  vst1_u8(rest, quantize(load_words(x + i, n - i)));
  std::memcpy(y + i, rest, static_cast<size_t>(n - i));
}

void quantize_planar3_f32_u8_x8__neon(const float* x, int64_t plane, uint8_t* y, int64_t n,
                                      const QuantizeParams& params) noexcept {
  const QuantizeVectors quantize(params);
  for (int64_t i = 0; i < n; i += 8) {
    const int64_t left = n - i;
    const uint8x8x3_t pixels = {{quantize(load_words(x + i, left)), quantize(load_words(x + plane + i, left)),
                                 quantize(load_words(x + 2 * plane + i, left))}};
    if (left >= 8) {
      vst3_u8(y + 3 * i, pixels);
    } else {
      uint8_t rest[24];
      vst3_u8(rest, pixels);
      std::memcpy(y + 3 * i, rest, static_cast<size_t>(3 * left));
    }
  }
}

void dequantize_u8_f32_x16__neon(const uint8_t* x, float* y, int64_t n, float scale, int32_t zero_point) noexcept {
  const uint8x16_t z = vdupq_n_u8(static_cast<uint8_t>(zero_point));
  const auto store = [scale](float* to, const float32x4x4_t& v) noexcept {
    for (int k = 0; k < 4; ++k) vst1q_f32(to + 4 * k, vmulq_n_f32(v.val[k], scale));
  };
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) store(y + i, Centered16(vld1q_u8(x + i), z).floats());
  if (i == n) return;
  const auto rest = static_cast<size_t>(n - i);
  float out[16];
  store(out, Centered16(load_part(x + i, rest), z).floats());
  std::memcpy(y + i, out, rest * sizeof(float));
}

}  // namespace qfx::elementwise
