#pragma once
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/inference.h"
#include "runtime/loaded.h"
#include "runtime/plan.h"
#include "runtime/readers.h"

namespace qfx {

// A stretch of memory that one or more values share.
struct Storage {
  Location::Base base = Location::Base::arena;
  int index = 0;
  int64_t bytes = 0;
  bool read = false;
};

// A place inside a storage.
struct Place {
  int storage = -1;
  int64_t offset = 0;
};

// What a plan computes, in the program's order, and in which storage each value is; where those are in the arena comes
// later (phases.h). What is in a storage is written once, a part by each of its writers, before anything is read.
struct Draft {
  struct Operands {
    std::vector<Place> in, out;
  };

  std::vector<Storage> storages;
  std::vector<Place> values;            // one a value of the program; none yet: storage -1
  std::vector<PlannedWork> works;       // without locations and lanes
  std::vector<Operands> operands;       // one a work
  std::vector<std::string_view> views;  // names of the steps that became views
  std::list<std::string> names;         // of works that are of several steps
  size_t scratch_bytes = 0;
  int max_threads = 1;
};

// Consecutive channels of a value.
struct Channels {
  int value = -1;
  int64_t channel = 0;
};

// Makes the draft of some steps of a program.
class Placement {
 public:
  Placement(const LoadedProgram& loaded, ShapeInference& shapes, const PlanOptions& options);

  // A buffer for a value that something else writes.
  Place reserve(int value);
  // Steps from `first` to before `last`; `outputs` are read after them. Throws InputError naming the step.
  void add_steps(size_t first, size_t last, const std::vector<int>& outputs);
  // Output `o` of the plan is value `v`: its buffer is the caller's memory if nothing else reads it, else it is copied.
  void add_output(int o, int v);

  Draft take() { return std::move(draft_); }

 private:
  struct Named {
    std::unique_ptr<Work> work;
    int step;
    std::string_view name, op;
  };
  // The rows of a value, quantized for all steps that read them so.
  struct Quantized {
    int value;
    QuantizedRows how;
    Place place;
  };

  // Steps that go by rows, and their works; how: the rows of the last one's result are quantized.
  struct Chain {
    std::vector<size_t> steps;
    std::vector<std::unique_ptr<Work>> works;
    std::optional<QuantizedRows> how;
  };

  void bind_constants();
  void find_channels_in_place(size_t first, const std::vector<StepShapes>& seen);
  void add_step(size_t s, StepShapes in);
  bool add_without_work(size_t s, StepShapes& in);
  bool add_on_quantized(size_t s, const StepShapes& in);
  bool add_chain(size_t s, const std::vector<StepShapes>& seen);
  bool extend(Chain& chain, size_t s, const std::vector<StepShapes>& seen) const;
  std::string_view joined(const Chain& chain, std::string Step::* field);
  std::optional<QuantizedRows> wanted(int value) const;
  const Quantized& add_rows(Named named, int value, const QuantizedRows& how, const Place& from);
  const Quantized* quantized(int value, const QuantizedRows& how) const;
  bool wants(const Readers::Use& use, const QuantizedRows& how) const;
  std::vector<Place> operands_of(size_t s);
  void add_prepare(size_t s, std::unique_ptr<Work> work, const Dims& shape, Place& operand);
  void add_view(const Step& step, Place source, int64_t offset);
  void add_results(size_t s, Planned planned, std::vector<Place> operands);
  void add_copy(Named named, const Place& from, const Place& to, const Dims& shape, DType dtype);
  // shape: of the first in `out`. out_bytes: that the work writes in each.
  void add_work(Named named, const Dims& shape, std::vector<Place> in, std::vector<Place> out,
                std::vector<int64_t> out_bytes);

  int add_storage(Storage storage);
  Place new_buffer(const Dims& shape, DType dtype);
  Place external_place(int value);
  Place dense_place(int value);
  Place target_of(int value);
  std::unique_ptr<Work> dense_copy(const Dims& shape, DType dtype) const;
  const Value& value(int id) const { return program_.values()[id]; }

  const LoadedProgram& loaded_;
  const Program& program_;
  ShapeInference& shapes_;
  PlanOptions options_;
  size_t first_ = 0;                // of the steps that are added
  std::vector<char> done_;          // the steps that another has taken with it
  std::optional<Readers> readers_;  // of the steps that are added
  std::vector<Quantized> quantized_;
  std::map<int, Channels> joined_;       // values that are written into another
  std::map<int, Channels> split_;        // values that are read out of another
  std::map<int, int> external_storage_;  // of program inputs
  Draft draft_;
};

}  // namespace qfx
