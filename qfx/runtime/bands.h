#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "runtime/frontier.h"
#include "runtime/loaded.h"
#include "runtime/plan.h"

namespace qfx {

// How the first steps of a program go over one image: a few rows at a time, so that what they write is still in cache
// when it is read, where whole images would pass through memory.
struct BandChoice {
  int steps = 0;       // the program's first `steps` steps
  int value = -1;      // the one value of theirs that anything later reads
  int64_t rows = 0;    // of it, a band
  ValueShapes shapes;  // of the whole image
};

struct Rows {
  int64_t first = 0, last = 0;

  int64_t count() const noexcept { return last - first; }
  bool operator==(const Rows&) const = default;
};

// What the steps of one band read and write.
struct Band {
  ValueShapes shapes;                        // of the values, with this band's rows
  std::vector<Rows> values;                  // rows of the image in each value
  std::vector<std::vector<Rows>> operands;   // one a step, one an operand: what the step reads of it
  std::vector<std::vector<int64_t>> starts;  // the same: its first row in the memory of the value
  std::vector<RowPadding> padding;           // one a step

  // Bands that differ in nothing but where their rows are have plans alike.
  bool has_plan_of(const Band& other) const;
};

// Nothing where the values fit the caches, or where the rows that bands compute twice cost more than bands save.
// cached_bytes: PlanOptions'.
std::optional<BandChoice> choose_bands(const LoadedProgram& loaded, std::span<const InputLayout> inputs,
                                       int64_t cached_bytes);

// The band that computes the rows `out` of the choice's value; nothing where a step's window misses its image.
std::optional<Band> band_of(const LoadedProgram& loaded, const BandChoice& choice, Rows out);

// The dim of a program input that holds its rows: the one step that reads it says which.
int row_axis(const LoadedProgram& loaded, int input);

}  // namespace qfx
