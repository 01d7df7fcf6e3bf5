#include "conv/depthwise_lanes__neon.h"
#include "core/kernels_of_level.h"

namespace qfx::conv {
namespace {

using namespace gemm;

// Dot products of four s8: activations are read 128 less than they are, and the sums start so much higher.
struct DotProd {
  struct Data {
    int8x16_t low, high;

    explicit Data(const std::byte* p) noexcept : low(shifted(p)), high(shifted(p + 16)) {}

   private:
    static int8x16_t shifted(const std::byte* p) noexcept {
      return vreinterpretq_s8_u8(veorq_u8(vld1q_u8(reinterpret_cast<const uint8_t*>(p)), vdupq_n_u8(0x80)));
    }
  };
  struct Weights {
    int8x16_t low, high;

    explicit Weights(const std::byte* p) noexcept
        : low(vld1q_s8(reinterpret_cast<const int8_t*>(p))), high(vld1q_s8(reinterpret_cast<const int8_t*>(p) + 16)) {}
  };

  static void add(Eight& acc, const Data& d, const Weights& w) noexcept {
    acc.low = vdotq_s32(acc.low, d.low, w.low);
    acc.high = vdotq_s32(acc.high, d.high, w.high);
  }
  static Eight initial(const DepthwiseLine& line, int64_t which, int64_t lane) noexcept {
    Eight sum{vdupq_n_s32(0), vdupq_n_s32(0)};
    const std::byte* p = line.weights + which * 128 + lane * 4;
    for (int64_t i = line.groups * line.column_taps; i > 0; --i, p += 128 * line.lines) {
      const Weights w(p);
      sum.low = vdotq_s32(sum.low, w.low, vdupq_n_s8(1));
      sum.high = vdotq_s32(sum.high, w.high, vdupq_n_s8(1));
    }
    const Eight bias = load_eight(line.bias + lane);
    return {vaddq_s32(bias.low, vshlq_n_s32(sum.low, 7)), vaddq_s32(bias.high, vshlq_n_s32(sum.high, 7))};
  }
};

}  // namespace

#undef QFX_IF_dotprod
#define QFX_IF_dotprod(...) __VA_ARGS__
#define QFX_CONV_DEPTHWISE(name, isa, pixels, channels) \
  QFX_IF_##isa(                                         \
      void name(const DepthwiseLine& line) noexcept {   \
        depthwise<DotProd>(line);                       \
      } void name##_interleave(const InterleaveLine& line) noexcept { interleave(line); })
#include "conv/kernels.inc"

}  // namespace qfx::conv
