#include "runtime/placement.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <utility>

#include "runtime/shapes.h"

namespace qfx {
namespace {

using Base = Location::Base;

template <class Body>
auto named(const Step& step, const Body& body) {
  try {
    return body();
  } catch (const std::invalid_argument& error) {
    fail_step(step, error);
  }
}

}  // namespace

Placement::Placement(const LoadedProgram& loaded, ShapeInference& shapes, const PlanOptions& options)
    : loaded_(loaded), program_(*loaded.program), shapes_(shapes), options_(options) {
  draft_.values.resize(program_.values().size());
  bind_constants();
}

void Placement::bind_constants() {
  for (size_t v = 0; v < draft_.values.size(); ++v) {
    const Value& value = program_.values()[v];
    if (value.constant < 0) continue;
    draft_.values[v] = {add_storage({Base::constant, value.constant, byte_size(value.shape, value.dtype)}), 0};
  }
}

Place Placement::reserve(int v) {
  return draft_.values[v] = new_buffer(shapes_.shape(v), value(v).dtype);
}

void Placement::add_steps(size_t first, size_t last, const std::vector<int>& outputs) {
  readers_.emplace(program_, first, last, outputs);
  first_ = first;
  done_.assign(program_.steps().size(), 0);
  std::vector<StepShapes> seen;
  seen.reserve(last - first);
  for (size_t s = first; s < last; ++s) {
    seen.push_back(named(program_.steps()[s], [&] { return shapes_.infer(s); }));
  }
  if (!options_.keep_values) find_channels_in_place(first, seen);
  for (size_t s = first; s < last; ++s) {
    named(program_.steps()[s], [&] {
      if (!done_[s] && (options_.keep_values || !add_chain(s, seen))) add_step(s, std::move(seen[s - first]));
    });
  }
}

// Values that a step puts side by side are written there by the steps that make them, and values that a step takes
// apart are read where they lie, where all who are concerned can keep a distance between pixels.
void Placement::find_channels_in_place(size_t first, const std::vector<StepShapes>& seen) {
  const size_t last = first + seen.size();
  const Readers& readers = *readers_;
  std::vector<char> can_place(draft_.values.size(), 0);
  for (size_t s = first; s < last; ++s) {
    const Step& step = program_.steps()[s];
    const StepKernel& kernel = *loaded_.kernels[s];
    can_place[step.output()] = loaded_.rows[s]->pixel_strides && element_count(shapes_.shape(step.output())) > 0;
    if (kernel.joins_channels() && step.inputs.size() > 1) {
      int64_t at = 0;
      for (const int v : step.inputs) {
        if (can_place[v] && readers.of(v).size() == 1 && !readers.leaves(v)) joined_[v] = {step.output(), at};
        at += shapes_.shape(v).back();
      }
    }
    const int64_t channel = kernel.first_channel(seen[s - first]);
    const bool is_dense = shapes_.input_of(step.inputs[0]) < 0 && split_.count(step.inputs[0]) == 0;
    const bool reads_pixels = !readers.leaves(step.output()) && readers.all(step.output(), [&](int reader, size_t i) {
      return loaded_.rows[reader]->pixel_strides && i == 0;
    });
    if (channel >= 0 && is_dense && reads_pixels) split_[step.output()] = {step.inputs[0], channel};
  }
}

void Placement::add_step(size_t s, StepShapes in) {
  const Step& step = program_.steps()[s];
  const Dims& y = shapes_.shape(step.output());
  if (add_without_work(s, in)) return;
  if (!options_.keep_values && add_on_quantized(s, in)) return;
  if (const auto part = split_.find(step.inputs[0]); part != split_.end()) {
    in.x_pixel_stride = shapes_.shape(part->second.value).back();
  }
  const auto join = joined_.find(step.output());
  if (join != joined_.end()) in.y_pixel_stride = shapes_.shape(join->second.value).back();
  Planned planned = loaded_.kernels[s]->plan(in, y);
  std::vector<Place> operands = operands_of(s);
  if (planned.work == nullptr) return add_view(step, operands[0], planned.view_offset);
  if (planned.prepare != nullptr) add_prepare(s, std::move(planned.prepare), in.inputs[0], operands[0]);
  if (join != joined_.end()) {
    Place target = target_of(join->second.value);
    target.offset += join->second.channel * element_size(value(step.output()).dtype);
    draft_.values[step.output()] = target;
  }
  add_results(s, std::move(planned), std::move(operands));
}

// The work of step `s`, into the places of its results and what more it needs.
void Placement::add_results(size_t s, Planned planned, std::vector<Place> operands) {
  const Step& step = program_.steps()[s];
  std::vector<Place> out;
  std::vector<int64_t> bytes;
  for (const int v : step.outputs) {
    out.push_back(target_of(v));
    bytes.push_back(shapes_.bytes(v));
  }
  if (planned.room > 0) {
    out.push_back({add_storage({Base::arena, 0, planned.room}), 0});
    bytes.push_back(planned.room);
  }
  add_work({std::move(planned.work), static_cast<int>(s), step.name, step.op}, shapes_.shape(step.output()),
           std::move(operands), std::move(out), std::move(bytes));
}

// Whether there is nothing to compute: no elements, or channels that are where they belong already. Else, `in` knows
// which of the operands are.
bool Placement::add_without_work(size_t s, StepShapes& in) {
  const Step& step = program_.steps()[s];
  const DType dtype = value(step.output()).dtype;
  if (std::ranges::all_of(step.outputs, [&](int v) { return element_count(shapes_.shape(v)) == 0; })) {
    for (const int v : step.outputs) reserve(v);
    return true;
  }
  if (const auto whole = split_.find(step.output()); whole != split_.end()) {
    Place source = dense_place(whole->second.value);
    source.offset += whole->second.channel * element_size(dtype);
    draft_.values[step.output()] = source;
    draft_.views.push_back(step.name);
    return true;
  }
  for (const int v : step.inputs) {
    const auto part = joined_.find(v);
    in.placed.push_back(part != joined_.end() && part->second.value == step.output());
  }
  if (std::ranges::find(in.placed, 0) != in.placed.end()) return false;
  draft_.views.push_back(step.name);
  return true;
}

std::vector<Place> Placement::operands_of(size_t s) {
  const std::vector<int>& inputs = program_.steps()[s].inputs;
  std::vector<Place> operands;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const bool strided = loaded_.rows[s]->strided_input && shapes_.input_of(inputs[i]) >= 0;
    operands.push_back(strided ? external_place(inputs[i]) : dense_place(inputs[i]));
    operands.back().offset += shapes_.first_byte(s, i);
  }
  return operands;
}

void Placement::add_prepare(size_t s, std::unique_ptr<Work> work, const Dims& shape, Place& operand) {
  const Step& step = program_.steps()[s];
  const DType dtype = value(step.inputs[0]).dtype;
  const Place prepared = new_buffer(shape, dtype);
  add_copy({std::move(work), static_cast<int>(s), step.name, "prepare"}, operand, prepared, shape, dtype);
  operand = prepared;
}

// The caller's memory has no slack to read past its end, so a view of such a type is a copy.
void Placement::add_view(const Step& step, Place source, int64_t offset) {
  const Dims& y = shapes_.shape(step.output());
  const DType dtype = value(step.output()).dtype;
  source.offset += offset;
  if (draft_.storages[source.storage].base == Base::input && is_read_past_end(dtype)) {
    const Place target = new_buffer(y, dtype);
    add_copy({dense_copy(y, dtype), -1, step.name, "copy_input"}, source, target, y, dtype);
    source = target;
  } else {
    draft_.views.push_back(step.name);
  }
  draft_.values[step.output()] = source;
}

void Placement::add_copy(Named named, const Place& from, const Place& to, const Dims& shape, DType dtype) {
  add_work(std::move(named), shape, {from}, {to}, {byte_size(shape, dtype)});
}

void Placement::add_work(Named named, const Dims& shape, std::vector<Place> in, std::vector<Place> out,
                         std::vector<int64_t> out_bytes) {
  PlannedWork planned;
  planned.work = std::move(named.work);
  planned.step = named.step;
  planned.name = named.name;
  planned.op = named.op;
  planned.shape = shape;
  planned.bytes = std::accumulate(out_bytes.begin(), out_bytes.end(), int64_t{0});
  planned.out_bytes = std::move(out_bytes);
  planned.max_threads = static_cast<int>(
      std::clamp<int64_t>(planned.work->cost() / options_.cost_per_thread, 1, std::numeric_limits<int>::max()));
  draft_.max_threads = std::max(draft_.max_threads, planned.max_threads);
  draft_.scratch_bytes = std::max(draft_.scratch_bytes, planned.work->scratch_bytes());
  draft_.works.push_back(std::move(planned));
  for (const Place& p : in) draft_.storages[p.storage].read = true;
  draft_.operands.push_back({std::move(in), std::move(out)});
}

void Placement::add_output(int o, int v) {
  const DType dtype = value(v).dtype;
  const Dims& shape = shapes_.shape(v);
  if (element_count(shape) == 0) return;
  const Place place = dense_place(v);
  Storage& s = draft_.storages[place.storage];
  if (s.base == Base::arena && !s.read && place.offset == 0 && s.bytes == byte_size(shape, dtype)) {
    s.base = Base::output;
    s.index = o;
    return;
  }
  const Place target{add_storage({Base::output, o, byte_size(shape, dtype)}), 0};
  add_copy({dense_copy(shape, dtype), -1, value(v).name, "copy_output"}, place, target, shape, dtype);
}

int Placement::add_storage(Storage storage) {
  draft_.storages.push_back(storage);
  return static_cast<int>(draft_.storages.size()) - 1;
}

Place Placement::new_buffer(const Dims& shape, DType dtype) {
  return {add_storage({Base::arena, 0, byte_size(shape, dtype)}), 0};
}

// The caller's memory as it is. Read only by steps that take strides, or where it is dense.
Place Placement::external_place(int v) {
  const auto known = external_storage_.find(v);
  if (known != external_storage_.end()) return {known->second, 0};
  const int id = add_storage({Base::input, shapes_.input_of(v), shapes_.bytes(v)});
  external_storage_[v] = id;
  return {id, 0};
}

// A dense place that a kernel may read past the end of. Copies a program input on its first use unless it is
// dense, of a type that is read to its end only.
Place Placement::dense_place(int v) {
  Place& place = draft_.values[v];
  if (place.storage >= 0) return place;
  const InputLayout& layout = shapes_.inputs()[shapes_.input_of(v)];
  const DType dtype = value(v).dtype;
  if (element_count(layout.shape) == 0) return place = new_buffer(layout.shape, dtype);
  const Place source = external_place(v);
  if (!is_read_past_end(dtype) && is_dense(layout.shape, layout.strides)) return place = source;
  place = new_buffer(layout.shape, dtype);
  auto copy = plan_copy({layout.shape, layout.strides, 0, element_size(dtype)}, loaded_.isa);
  add_copy({std::move(copy), -1, value(v).name, "copy_input"}, source, place, layout.shape, dtype);
  return place;
}

// The buffer of a value, made by whoever writes to it first.
Place Placement::target_of(int v) {
  Place& place = draft_.values[v];
  return place.storage >= 0 ? place : reserve(v);
}

std::unique_ptr<Work> Placement::dense_copy(const Dims& shape, DType dtype) const {
  return plan_copy({{element_count(shape)}, {1}, 0, element_size(dtype)}, loaded_.isa);
}

}  // namespace qfx
