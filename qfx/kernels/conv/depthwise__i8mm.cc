#include "conv/depthwise_lanes__neon.h"
#include "core/kernels_of_level.h"

namespace qfx::conv {
namespace {

using namespace gemm;

// Dot products of four u8 by four s8.
struct I8mm {
  struct Data {
    uint8x16_t low, high;

    explicit Data(const std::byte* p) noexcept
        : low(vld1q_u8(reinterpret_cast<const uint8_t*>(p))),
          high(vld1q_u8(reinterpret_cast<const uint8_t*>(p) + 16)) {}
  };
  struct Weights {
    int8x16_t low, high;

    explicit Weights(const std::byte* p) noexcept
        : low(vld1q_s8(reinterpret_cast<const int8_t*>(p))), high(vld1q_s8(reinterpret_cast<const int8_t*>(p) + 16)) {}
  };

  static void add(Eight& acc, const Data& d, const Weights& w) noexcept {
    acc.low = vusdotq_s32(acc.low, d.low, w.low);
    acc.high = vusdotq_s32(acc.high, d.high, w.high);
  }
  static Eight initial(const DepthwiseLine& line, int64_t, int64_t lane) noexcept {
    return load_eight(line.bias + lane);
  }
};

}  // namespace

#undef QFX_IF_i8mm
#define QFX_IF_i8mm(...) __VA_ARGS__
#define QFX_CONV_DEPTHWISE(name, isa, pixels, channels) \
  QFX_IF_##isa(                                         \
      void name(const DepthwiseLine& line) noexcept {   \
        depthwise<I8mm>(line);                          \
      } void name##_interleave(const InterleaveLine& line) noexcept { interleave(line); })
#include "conv/kernels.inc"

}  // namespace qfx::conv
