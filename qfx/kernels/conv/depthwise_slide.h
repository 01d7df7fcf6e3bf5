#pragma once
#include <cstdint>
#include <memory>

#include "conv/depthwise.h"
#include "conv/problem.h"

namespace qfx::conv {

// A sliding kernel takes up to 64 channels, as four vectors of 16 or, for up to 32 of them, of 8 lanes.
constexpr int64_t slide_lanes(int64_t channels) noexcept {
  return channels > 32 ? 16 : 8;
}

// Which channel a lane of a vector holds: where unpacking rows of bytes twice puts it, and packing brings it back from.
constexpr int64_t slide_channel(int64_t vector, int64_t lane) noexcept {
  return lane / 4 * 16 + vector * 4 + lane % 4;
}

// Dot products of four bytes that a window takes: a column's first four rows; of seven rows the other three; of five
// the fifth, whose columns 1 to 4 make one dot product and column 0 another.
constexpr int slide_dots(int window) noexcept {
  return window == 3 ? 3 : window == 5 ? 7 : 14;
}

// Whether a kernel's window and its epilogue are the problem's.
bool slides(const DepthwiseKernel& kernel, const Problem& problem) noexcept;

std::unique_ptr<PackedConv> pack_slide(const DepthwiseKernel& kernel, Problem problem);

}  // namespace qfx::conv
