#pragma once
#include <cstdint>

namespace qfx::rounding {

// Integer weights whose products with an input of second moments H lie near those of the real weights.
struct Problem {
  int64_t groups = 0;
  int64_t rows = 0;                // of a group: output channels
  int64_t length = 0;              // of a row: weights
  const float* target = nullptr;   // [groups][rows][length], in units of the scale
  const float* moments = nullptr;  // [groups][length][length], symmetric, with a positive diagonal
  int lo = -128;
  int hi = 127;
  int sweeps = 3;
};

// Floats of working memory that one call of descend needs.
int64_t scratch_floats(const Problem& problem) noexcept;

// Coordinate descent on (target - q)' H (target - q) over integers lo <= q <= hi, for rows [first, last) of all
// groups * rows; it starts at `codes`, which it changes, and never ends above its start.
void descend(const Problem& problem, int8_t* codes, int64_t first, int64_t last, float* scratch) noexcept;

}  // namespace qfx::rounding
