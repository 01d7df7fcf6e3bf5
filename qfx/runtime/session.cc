#include "runtime/session.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <string>
#include <utility>

#include "runtime/errors.h"
#include "runtime/inference.h"
#include "runtime/shapes.h"

namespace qfx {
namespace {

// Room for a value of `bytes`; one that has outgrown its buffer is expected to grow on.
void reserve_for(AlignedBuffer& buffer, size_t bytes) {
  const bool grows = buffer.size() > 0 && buffer.size() < bytes;
  reserve(buffer, grows ? bytes + bytes / 2 : bytes);
}

// The numbers below `count` that are not in `taken`.
std::vector<int> others(size_t count, const std::set<int>& taken) {
  std::vector<int> left;
  for (int i = 0; i < static_cast<int>(count); ++i) {
    if (taken.count(i) == 0) left.push_back(i);
  }
  return left;
}

}  // namespace

Session::Session(std::shared_ptr<Executable> executable, std::vector<State> states)
    : executable_(std::move(executable)), states_(std::move(states)), held_(states_.size()) {
  const Program& program = *executable_->loaded().program;
  std::set<int> in, out;
  for (const State& state : states_) {
    const auto is_of = [](int i, const std::vector<int>& ids) { return i >= 0 && i < static_cast<int>(ids.size()); };
    if (!is_of(state.input, program.inputs()) || !is_of(state.output, program.outputs())) {
      throw InputError("states", "A state is an input or output that the program does not have.");
    }
    const Value& x = program.values()[program.inputs()[state.input]];
    const Value& y = program.values()[program.outputs()[state.output]];
    if (x.dtype != y.dtype || x.rank() != y.rank()) {
      throw InputError(x.name, "State '" + x.name + "' and what becomes it, '" + y.name +
                                   "', differ in their type or number of dimensions.");
    }
    if (!in.insert(state.input).second || !out.insert(state.output).second) {
      throw InputError(x.name, "State '" + x.name + "' shares an input or output with another.");
    }
  }
  inputs_ = others(program.inputs().size(), in);
  outputs_ = others(program.outputs().size(), out);
}

const Value& Session::value(size_t state) const {
  const Program& program = *executable_->loaded().program;
  return program.values()[program.inputs()[states_.at(state).input]];
}

const Session::Held& Session::held(size_t state) const {
  if (!held_.at(state).is_set) {
    throw InputError(value(state).name, "State '" + value(state).name + "' has no value before the first run.");
  }
  return held_[state];
}

void Session::set(size_t state, Dims shape, const void* data) {
  check_declared(value(state), shape, value(state).name);
  Held& held = held_[state];
  const auto bytes = static_cast<size_t>(byte_size(shape, dtype(state)));
  reserve_for(held.next, bytes);
  if (bytes > 0) std::memcpy(held.next.data(), data, bytes);
  std::swap(held.now, held.next);
  held.shape = std::move(shape);
  held.is_set = true;
}

std::shared_ptr<const Plan> Session::plan(std::vector<InputLayout> inputs) {
  if (inputs.size() != inputs_.size()) {
    throw InputError("inputs", "A run takes " + std::to_string(inputs_.size()) + " inputs beside its states, not " +
                                   std::to_string(inputs.size()) + ".");
  }
  std::vector<InputLayout> all(inputs_.size() + states_.size());
  for (size_t i = 0; i < inputs_.size(); ++i) {
    InputLayout& layout = all[inputs_[i]] = std::move(inputs[i]);
    if (layout.shape.size() == layout.strides.size()) canonicalize_strides(layout.shape, layout.strides);
  }
  for (size_t s = 0; s < states_.size(); ++s) {
    all[states_[s].input] = {shape(s), dense_strides(shape(s))};
  }
  if (last_ == nullptr || last_->inputs != all) last_ = executable_->plan(std::move(all));
  return last_;
}

void Session::run(const Plan& plan, std::span<const void* const> in, std::span<void* const> out, int threads) {
  const int team = team_size(plan, threads);
  frame_.grow(plan, team);
  std::vector<const void*> all_in(plan.inputs.size());
  std::vector<void*> all_out(plan.output_shapes.size());
  for (size_t i = 0; i < inputs_.size(); ++i) all_in[inputs_[i]] = in[i];
  for (size_t o = 0; o < outputs_.size(); ++o) all_out[outputs_[o]] = out[o];
  for (size_t s = 0; s < states_.size(); ++s) {
    reserve_for(held_[s].next, static_cast<size_t>(byte_size(plan.output_shapes[states_[s].output], dtype(s))));
    all_in[states_[s].input] = held_[s].now.data();
    all_out[states_[s].output] = held_[s].next.data();
  }
  if (work_count(plan) > 0) frame_.run(plan, all_in, all_out, team, nullptr);
  for (size_t s = 0; s < states_.size(); ++s) {
    std::swap(held_[s].now, held_[s].next);
    held_[s].shape = plan.output_shapes[states_[s].output];
  }
}

}  // namespace qfx
