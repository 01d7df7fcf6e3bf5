#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "runtime/loaded.h"
#include "runtime/plan.h"

namespace qfx {

// How the first steps of a program go over a batch: a few images at a time, so that what they write is still in cache
// when it is read.
struct SliceChoice {
  int steps = 0;       // the program's first `steps` steps
  int value = -1;      // the one value of theirs that anything later reads
  int64_t images = 0;  // a slice; divides the batch
  int64_t count = 0;   // slices
};

// Nothing where whole batches are as good, or where a step could mix images.
std::optional<SliceChoice> choose_slices(const LoadedProgram& loaded, std::span<const InputLayout> inputs);

// The layout of the first `images` images of an input.
InputLayout first_images(const InputLayout& input, int64_t images);

}  // namespace qfx
