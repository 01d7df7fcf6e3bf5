#pragma once
#include <memory>
#include <span>
#include <vector>

#include "runtime/buffer.h"
#include "runtime/executable.h"
#include "runtime/frame.h"

namespace qfx {

// Runs of an executable, one after the other, in memory of its own. States are values that live from run to run: what
// one run gives as an output of the program, the next takes as an input. For one thread at a time.
class Session {
 public:
  struct State {
    int input = 0, output = 0;  // of the program
  };

  // Throws InputError for a state that is no input and output of one type, or shares one with another.
  Session(std::shared_ptr<Executable> executable, std::vector<State> states);

  // Gives a state a value, which is copied. Throws InputError for a shape that the program does not take.
  void set(size_t state, Dims shape, const void* data);

  // What a state is now. Throws InputError before it has a value.
  const Dims& shape(size_t state) const { return held(state).shape; }
  const void* data(size_t state) const { return held(state).now.data(); }
  DType dtype(size_t state) const { return value(state).dtype; }

  // The plan of the next run; `inputs` are those that are no states. Throws InputError, also for a state without value.
  std::shared_ptr<const Plan> plan(std::vector<InputLayout> inputs);

  // The next run, by its plan. `in` and `out`: what is no state, in the program's order. Throws std::bad_alloc, before
  // anything has changed.
  void run(const Plan& plan, std::span<const void* const> in, std::span<void* const> out, int threads);

 private:
  struct Held {
    bool is_set = false;
    Dims shape;
    AlignedBuffer now, next;
  };

  const Value& value(size_t state) const;  // that the program takes it as
  const Held& held(size_t state) const;

  std::shared_ptr<Executable> executable_;
  std::vector<State> states_;
  std::vector<int> inputs_, outputs_;  // that are no states
  std::vector<Held> held_;             // one a state
  std::shared_ptr<const Plan> last_;
  Frame frame_;
};

}  // namespace qfx
