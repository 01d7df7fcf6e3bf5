#include "runtime/session.h"

#include <algorithm>
#include <cstring>
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

}  // namespace

Session::Places Session::places(const std::vector<int>& ids, const std::vector<State>& states, int State::* end) {
  Places found;
  for (const State& state : states) {
    found.of_states.push_back(static_cast<int>(std::ranges::find(ids, state.*end) - ids.begin()));
  }
  for (int i = 0; i < static_cast<int>(ids.size()); ++i) {
    if (std::ranges::find(found.of_states, i) == found.of_states.end()) found.of_others.push_back(i);
  }
  return found;
}

Session::Session(std::shared_ptr<Executable> executable) : executable_(std::move(executable)) {
  const Program& program = *executable_->loaded().program;
  const std::vector<State>& states = program.states();
  inputs_ = places(program.inputs(), states, &State::input);
  outputs_ = places(program.outputs(), states, &State::output);
  held_.resize(states.size());
  for (size_t s = 0; s < states.size(); ++s) {
    if (states[s].initial < 0) continue;
    const Constant& initial = program.constants()[states[s].initial];
    set(s, initial.shape, initial.data.data());
  }
}

const Value& Session::value(size_t state) const {
  const Program& program = *executable_->loaded().program;
  return program.values()[program.states().at(state).input];
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
  if (inputs.size() != inputs_.of_others.size()) {
    throw InputError("inputs", "A run takes " + std::to_string(inputs_.of_others.size()) +
                                   " inputs beside its states, not " + std::to_string(inputs.size()) + ".");
  }
  std::vector<InputLayout> all(inputs_.of_others.size() + held_.size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    InputLayout& layout = all[inputs_.of_others[i]] = std::move(inputs[i]);
    if (layout.shape.size() == layout.strides.size()) canonicalize_strides(layout.shape, layout.strides);
  }
  for (size_t s = 0; s < held_.size(); ++s) {
    all[inputs_.of_states[s]] = {shape(s), dense_strides(shape(s))};
  }
  if (last_ == nullptr || last_->inputs != all) last_ = executable_->plan(std::move(all));
  return last_;
}

void Session::run(const Plan& plan, std::span<const void* const> in, std::span<void* const> out, int threads) {
  const int team = team_size(plan, threads);
  frame_.grow(plan, team);
  std::vector<const void*> all_in(plan.inputs.size());
  std::vector<void*> all_out(plan.output_shapes.size());
  for (size_t i = 0; i < inputs_.of_others.size(); ++i) all_in[inputs_.of_others[i]] = in[i];
  for (size_t o = 0; o < outputs_.of_others.size(); ++o) all_out[outputs_.of_others[o]] = out[o];
  for (size_t s = 0; s < held_.size(); ++s) {
    const Dims& next = plan.output_shapes[outputs_.of_states[s]];
    reserve_for(held_[s].next, static_cast<size_t>(byte_size(next, dtype(s))));
    all_in[inputs_.of_states[s]] = held_[s].now.data();
    all_out[outputs_.of_states[s]] = held_[s].next.data();
  }
  if (work_count(plan) > 0) frame_.run(plan, all_in, all_out, team, nullptr);
  for (size_t s = 0; s < held_.size(); ++s) {
    std::swap(held_[s].now, held_[s].next);
    held_[s].shape = plan.output_shapes[outputs_.of_states[s]];
  }
}

}  // namespace qfx
