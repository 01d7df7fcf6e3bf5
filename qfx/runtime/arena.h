#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace qfx {

// A buffer that holds data from step `first` to step `last`, both included.
struct Lifetime {
  int64_t bytes = 0;
  int first = 0, last = 0;
};

struct ArenaLayout {
  std::vector<int64_t> offsets;  // one a buffer, multiples of 64
  int64_t bytes = 0;             // end of the last buffer
  int64_t largest_live = 0;      // the most bytes live at one step: buffers with their read slack, rounded to 64
};

// Offsets such that no two buffers that are live at the same step overlap.
ArenaLayout place_buffers(std::span<const Lifetime> buffers);

}  // namespace qfx
