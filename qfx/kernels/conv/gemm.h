#pragma once
#include <cstdint>
#include <memory>
#include <span>

#include "conv/epilogue.h"
#include "conv/problem.h"
#include "core/isa.h"

namespace qfx::conv {

// Output pixels that lie at one distance from each other in x, by one panel of output
// channels.
// The reduction runs over `tap_count` runs of `steps` * depth contiguous activations each.
struct GemmTile {
  const std::byte* a = nullptr;   // row 0
  int64_t a_row = 0;              // bytes between rows
  const int64_t* taps = nullptr;  // byte offsets of the runs
  int64_t tap_count = 0;
  int64_t steps = 0;
  const std::byte* b = nullptr;    // packed weights of the panel
  const int32_t* order = nullptr;  // of its steps, where they are paired (pairing.h)
  const int32_t* bias = nullptr;   // [columns]
  // The weights that are read after these, which a kernel may fetch into the caches, kAheadBytes a step, while it
  // computes.
  const std::byte* ahead = nullptr;
  int64_t ahead_bytes = 0;
  Output out;
};

constexpr int64_t kAheadBytes = 64;

// Any number of rows, at least one, in tiles of at most the kernel's.
using GemmFn = void(const GemmTile& tile, int64_t rows) noexcept;

// One row of kStreams tiles that have all but panels in common. Their weights are read side by side: a single row waits
// for memory, which has more for several streams than for one.
using GemmStreamsFn = void(const GemmTile* tiles) noexcept;
constexpr int64_t kStreams = 4;

// How a kernel wants its weights: step by step, or ordered by what they are, which takes weights that are constant.
enum class Packing { steps, paired };

struct GemmKernel {
  const char* name;
  Isa isa;
  int rows;
  int columns;
  int depth;
  int bytes;  // of one activation as the kernel reads it
  int shift;  // how much less than it is the kernel takes an activation for
  GemmFn* run;
  Packing packing = Packing::steps;
  GemmStreamsFn* streams = nullptr;  // or null
};

// Every kernel of kernels.inc built for this architecture.
std::span<const GemmKernel> gemm_kernels() noexcept;

// The narrowest kernel of `kernels` with the packing of `main` that covers what is left of a row of panels.
const GemmKernel& kernel_for(const GemmKernel& main, std::span<const GemmKernel> kernels, int64_t columns);

// Steps that one TDPBUSD takes. The steps of every run are a multiple of that on level amx, the last ones with zero
// weights.
constexpr int64_t kTileSteps = 16;

// Applies to every geometry. Panels narrower than the kernel's may use one of `kernels`, which must outlive the result.
std::unique_ptr<PackedConv> pack_gemm(const GemmKernel& kernel, Problem problem,
                                      std::span<const GemmKernel> kernels = gemm_kernels());

#define QFX_CONV_GEMM(name, isa, rows, columns, depth, bytes) GemmFn name;
#define QFX_CONV_GEMM_STREAMS(name, isa, rows, columns) \
  GemmFn name;                                          \
  GemmStreamsFn name##_streams;
#include "conv/kernels.inc"

}  // namespace qfx::conv
