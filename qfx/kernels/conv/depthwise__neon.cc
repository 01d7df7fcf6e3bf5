#include "conv/depthwise_lanes__neon.h"
#include "core/kernels_of_level.h"

namespace qfx::conv {
namespace {

using namespace gemm;

// Everything widened to s16, a vector a tap.
struct Neon {
  struct Data {
    int16x8_t tap[4];

    explicit Data(const std::byte* p) noexcept {
      const uint8x8x4_t bytes = vld4_u8(reinterpret_cast<const uint8_t*>(p));
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) tap[i] = vreinterpretq_s16_u16(vmovl_u8(bytes.val[i]));
    }
  };
  struct Weights {
    int16x8_t tap[4];

    explicit Weights(const std::byte* p) noexcept {
      const int8x8x4_t bytes = vld4_s8(reinterpret_cast<const int8_t*>(p));
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) tap[i] = vmovl_s8(bytes.val[i]);
    }
  };

  static void add(Eight& acc, const Data& d, const Weights& w) noexcept {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      acc.low = vmlal_s16(acc.low, vget_low_s16(d.tap[i]), vget_low_s16(w.tap[i]));
      acc.high = vmlal_high_s16(acc.high, d.tap[i], w.tap[i]);
    }
  }
  static Eight initial(const DepthwiseLine& line, int64_t, int64_t lane) noexcept {
    return load_eight(line.bias + lane);
  }
};

// The second weight of each pair is zero and is left out.
void affine(const AffineLine& line) noexcept {
  for (int64_t first = 0; first < line.out.columns; first += 8) {
    const int16x8_t w = vld2q_s16(line.weights + 2 * first).val[0];
    const Eight bias = load_eight(line.bias + first);
    for (int64_t row = 0; row < line.count; ++row) {
      const uint8x8_t bytes = load_bytes(line.x + row * line.x_row + first, line.out.columns - first);
      const int16x8_t x = vreinterpretq_s16_u16(vmovl_u8(bytes));
      finish_eight(line.out, row, first,
                   {vmlal_s16(bias.low, vget_low_s16(x), vget_low_s16(w)), vmlal_high_s16(bias.high, x, w)});
    }
  }
}

}  // namespace

#undef QFX_IF_neon
#define QFX_IF_neon(...) __VA_ARGS__
#define QFX_CONV_DEPTHWISE(name, isa, pixels, channels) \
  QFX_IF_##isa(                                         \
      void name(const DepthwiseLine& line) noexcept {   \
        depthwise<Neon>(line);                          \
      } void name##_interleave(const InterleaveLine& line) noexcept { interleave(line); })
#define QFX_CONV_AFFINE(name, isa, channels) QFX_IF_##isa(void name(const AffineLine& line) noexcept { affine(line); })
#include "conv/kernels.inc"

}  // namespace qfx::conv
