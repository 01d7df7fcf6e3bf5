#pragma once
#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/work.h"
#include "runtime/dtype.h"

namespace qfx {

struct LoadedProgram;

struct InputLayout {
  Dims shape, strides;  // elements
  bool operator==(const InputLayout&) const = default;
};

// Where a value's first element is while a plan runs.
struct Location {
  enum class Base : int { arena, input, output, constant };
  Base base = Base::arena;
  int index = 0;       // which input, output or constant
  int64_t offset = 0;  // bytes
};

// One kernel call of a plan.
struct PlannedWork {
  std::unique_ptr<Work> work;
  int step = -1;              // the program's step, or -1: a copy of an input or to an output
  std::string_view name, op;  // the program's
  std::vector<Location> in, out;
  std::vector<int64_t> out_bytes;  // of each in `out`
  Dims shape;                      // of the first output
  int64_t bytes = 0;               // of all that it writes
  int max_threads = 1;             // more would not pay
  int lane = 0;                    // its first thread, modulo the team
  bool barrier = false;            // all threads meet before it
};

struct PlannedValue {
  bool defined = false;
  Dims shape;
  Location location;
};

struct PlanOptions {
  bool keep_values = false;             // no buffer is reused, every value can be read after the run
  bool slices = true;                   // the first steps may go over the batch a few images at a time ...
  bool bands = true;                    // ... or over an image a few rows at a time
  int64_t cached_bytes = 6 << 20;       // a core's share of the caches: more than this passes through memory
  int64_t cost_per_thread = 24 * 1024;  // Work::cost() that a thread needs for its part to be worth a barrier
};

struct Plan;

// A few images of the batch, or rows of the image.
struct Slice {
  int plan = 0;
  std::vector<int64_t> input_bytes;  // where it starts in each input
  int64_t out_bytes = 0;             // and in what the slices write
};

// The first steps of a plan, run over and over, each time on the next slice. Every thread has slices of its own, in
// memory of its own; those that do not go round are shared by all threads.
struct Slices {
  std::vector<std::unique_ptr<const Plan>> plans;  // of one slice; output 0 is `out`; all of the same works in order
  std::vector<Slice> parts;
  Location out;             // in the plan that these slices belong to
  int64_t arena_bytes = 0;  // of the largest plan
  bool are_bands = false;   // of rows of one image, some of which are computed twice
};

// A program bound to input shapes: kernels, buffers, barriers. Immutable; runs from many threads at once.
struct Plan {
  Plan() = default;
  Plan(Plan&&) = default;
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;

  std::shared_ptr<const LoadedProgram> loaded;
  std::vector<InputLayout> inputs;
  std::vector<Dims> output_shapes;
  std::unique_ptr<const Slices> slices;  // run before the works; or null
  std::vector<PlannedWork> works;
  std::vector<PlannedValue> values;     // one a value of the program
  std::vector<std::string_view> views;  // names of the steps that became views
  std::list<std::string> names;         // of works that are of several steps
  int64_t arena_bytes = 0, largest_live_bytes = 0;
  size_t scratch_bytes = 0;  // a thread
  size_t slots = 0;          // pointers that a run fills in
  int max_threads = 1;       // the most that a work can use
};

}  // namespace qfx
