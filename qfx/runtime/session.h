#pragma once
#include <memory>
#include <span>
#include <vector>

#include "runtime/buffer.h"
#include "runtime/executable.h"
#include "runtime/frame.h"

namespace qfx {

// Runs of an executable, one after the other, in memory of its own, which keeps the program's states. For one thread at
// a time. A state is named by its place in the program's list.
class Session {
 public:
  explicit Session(std::shared_ptr<Executable> executable);

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

  // Places among the inputs or outputs of the program.
  struct Places {
    std::vector<int> of_states;  // one a state
    std::vector<int> of_others;
  };
  static Places places(const std::vector<int>& ids, const std::vector<State>& states, int State::* end);

  const Value& value(size_t state) const;  // that the program takes it as
  const Held& held(size_t state) const;

  std::shared_ptr<Executable> executable_;
  Places inputs_, outputs_;
  std::vector<Held> held_;  // one a state
  std::shared_ptr<const Plan> last_;
  Frame frame_;
};

}  // namespace qfx
