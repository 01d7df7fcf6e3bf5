#pragma once
#include <cstdint>
#include <memory>
#include <span>

#include "conv/epilogue.h"
#include "conv/problem.h"
#include "core/isa.h"

namespace qfx::conv {

// Depthwise kernels see 32 lanes at a time. A lane is a channel; or, for few channels at stride 1, a channel of one
// of several neighbouring pixels, which lie in memory as the channels of one wide pixel would.
constexpr int kDepthwiseLanes = 32;

// Four lines of x become one line of columns [32 lanes][4 lines]: what a dot product of four bytes consumes.
struct InterleaveLine {
  const uint8_t* lines[4];  // 32 readable bytes at each step
  int64_t steps[4];         // bytes from one column to the next
  std::byte* to;            // 128 bytes a column
  int64_t count;
  int64_t lanes;  // that will be used; past the first 16 or 32 a column stays as it was
};

// `count` outputs of one or two output lines from interleaved columns.
struct DepthwiseLine {
  const std::byte* data = nullptr;  // column tap 0 of output 0
  int64_t pixel_step = 0;           // bytes of data from one output to the next
  int64_t tap_step = 0;             // from one column tap to the next
  int64_t group_step = 0;           // from one group of four lines to the next
  int64_t groups = 0;
  int64_t column_taps = 0;
  const std::byte* weights = nullptr;  // [groups][column taps][output lines][32][4]
  const int32_t* bias = nullptr;       // [32]
  int64_t lines = 0;                   // output lines in the weights: 1 or 2
  int64_t count = 0;
  Output out[2];  // rows: outputs. The second has no y where only the first is wanted.
};

// `count` outputs of a window of 3 by 3, from lines of x: columns are interleaved in registers and each one's dot
// products added to all outputs that it is under.
struct SlideLine {
  const uint8_t* lines[4];  // column 0, which may lie outside; 32 readable bytes at each step inside
  int64_t steps[4];         // bytes from one column to the next
  int64_t begin = 0;        // columns [begin, end) are inside, all others hold the zero point
  int64_t end = 0;
  uint8_t padding = 0;
  DepthwiseLine to;  // weights, bias, lines, count and out; no data
};

// y = epilogue(bias + x * w) over rows of lanes.
struct AffineLine {
  const uint8_t* x = nullptr;
  int64_t x_row = 0;
  const int16_t* weights = nullptr;  // [columns][2], the second zero
  const int32_t* bias = nullptr;     // [columns]
  int64_t count = 0;                 // rows
  Output out;                        // columns <= 64
};

using InterleaveFn = void(const InterleaveLine& line) noexcept;
using DepthwiseFn = void(const DepthwiseLine& line) noexcept;
using SlideFn = void(const SlideLine& line, int64_t stride) noexcept;
using AffineFn = void(const AffineLine& line) noexcept;

struct DepthwiseKernel {
  const char* name;
  Isa isa;
  int pixels;
  int channels;
  InterleaveFn* interleave;  // null: a sliding or an affine kernel
  DepthwiseFn* run;
  AffineFn* affine;
  SlideFn* slide = nullptr;  // of stride 1 or 2, to u8 without a residual
};

// Every kernel of kernels.inc built for this architecture.
std::span<const DepthwiseKernel> depthwise_kernels() noexcept;

bool applies(const DepthwiseKernel& kernel, const Problem& problem) noexcept;

// `kernel` must apply.
std::unique_ptr<PackedConv> pack_depthwise(const DepthwiseKernel& kernel, Problem problem);

#define QFX_CONV_DEPTHWISE(name, isa, pixels, channels) \
  DepthwiseFn name;                                     \
  InterleaveFn name##_interleave;
#define QFX_CONV_SLIDE(name, isa, channels) SlideFn name;
#define QFX_CONV_AFFINE(name, isa, channels) AffineFn name;
#include "conv/kernels.inc"

}  // namespace qfx::conv
