#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

#include "core/isa.h"
#include "gemm/epilogue.h"

namespace qfx::gemm {

// Rows that lie at one distance from each other, by one panel of columns.
// The reduction runs over `tap_count` runs of `steps` * depth contiguous activations each.
struct Tile {
  const std::byte* a = nullptr;   // row 0
  int64_t a_row = 0;              // bytes between rows
  const int64_t* taps = nullptr;  // byte offsets of the runs
  int64_t tap_count = 0;
  int64_t steps = 0;
  const std::byte* b = nullptr;    // packed weights of the panel
  const int32_t* order = nullptr;  // of its steps, where they are paired (pairing.h)
  const int32_t* start = nullptr;  // [columns] what the sums start from
  // The weights that are read after these, which a kernel may fetch into the caches, kAheadBytes a step, while it
  // computes.
  const std::byte* ahead = nullptr;
  int64_t ahead_bytes = 0;
  Output out;
};

constexpr int64_t kAheadBytes = 64;
constexpr int64_t kReadSlack = 64;  // bytes past a run that a tile may read

// Any number of rows, at least one, in tiles of at most the kernel's.
using TileFn = void(const Tile& tile, int64_t rows) noexcept;

// One row of kStreams tiles that have all but panels in common. Their weights are read side by side: a single row waits
// for memory, which has more for several streams than for one.
using StreamsFn = void(const Tile* tiles) noexcept;
constexpr int64_t kStreams = 4;

// How a kernel wants its weights: step by step, or ordered by what they are, which takes weights that are constant.
enum class Packing { steps, paired };

struct TileKernel {
  const char* name;
  Isa isa;
  int rows;
  int columns;
  int depth;
  int bytes;  // of one activation as the kernel reads it
  int shift;  // how much less than it is the kernel takes an activation for
  TileFn* run;
  Packing packing = Packing::steps;
  StreamsFn* streams = nullptr;  // or null

  // The steps of every run are a multiple of that, the last ones with zero weights.
  int64_t step_multiple() const noexcept;
  int64_t steps(int64_t length) const noexcept;  // of a run of that many activations
  int64_t step_bytes() const noexcept { return int64_t{columns} * depth * bytes; }
};

// Every kernel of kernels.inc built for this architecture.
std::span<const TileKernel> kernels() noexcept;

// The narrowest kernel of `kernels` with the packing of `main` that covers what is left of a row of panels.
const TileKernel& kernel_for(const TileKernel& main, std::span<const TileKernel> kernels, int64_t columns);

// Steps that one TDPBUSD takes.
constexpr int64_t kTileSteps = 16;

#define QFX_GEMM(name, isa, rows, columns, depth, bytes) TileFn name;
#define QFX_GEMM_STREAMS(name, isa, rows, columns) \
  TileFn name;                                     \
  StreamsFn name##_streams;
#include "gemm/kernels.inc"

}  // namespace qfx::gemm
