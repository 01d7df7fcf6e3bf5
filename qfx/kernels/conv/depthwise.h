#pragma once
#include <cstdint>
#include <memory>
#include <span>

#include "conv/problem.h"
#include "core/isa.h"
#include "gemm/epilogue.h"

namespace qfx::conv {

using gemm::Epilogue;
using gemm::Output;

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

constexpr int kMostWindow = 7;

// `count` neighbouring outputs of one line by a chunk of channels, under a square window: columns of x are interleaved
// in registers, and what each adds goes to all outputs that it is under. Packing: depthwise_slide.h.
struct SlideLine {
  const uint8_t* lines[kMostWindow];  // column 0 of each line of x under the window; 32 bytes, of more than 32 channels
                                      // 64, are readable at each column
  unsigned outside = 0;               // bit i: line i is none of x and holds the zero point
  int64_t step = 0;                   // bytes from one column to the next
  int64_t first = 0;                  // column under tap 0 of output 0
  int64_t columns = 0;                // [0, columns) are x, all others hold the zero point
  uint8_t padding = 0;
  const std::byte* weights = nullptr;  // with bias and multiplier
  int64_t count = 0;
  Output out;
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
  int window = 0;            // of a sliding kernel: extent of either dim
};

// Every kernel of kernels.inc built for this architecture.
std::span<const DepthwiseKernel> depthwise_kernels() noexcept;

bool applies(const DepthwiseKernel& kernel, const Problem& problem) noexcept;

// The kernel to use among those that run on level `isa` and apply: an affine kernel before a depthwise one, a higher
// level before a lower one. Null: none does.
const DepthwiseKernel* select_depthwise(std::span<const DepthwiseKernel> kernels, const Problem& problem,
                                        Isa isa) noexcept;

// `kernel` must apply.
std::unique_ptr<PackedConv> pack_depthwise(const DepthwiseKernel& kernel, Problem problem);

#define QFX_CONV_DEPTHWISE(name, isa, pixels, channels) \
  DepthwiseFn name;                                     \
  InterleaveFn name##_interleave;
#define QFX_CONV_SLIDE(name, isa, window, channels) SlideFn name;
#define QFX_CONV_AFFINE(name, isa, channels) AffineFn name;
#include "conv/kernels.inc"

}  // namespace qfx::conv
