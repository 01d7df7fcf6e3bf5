#include "runtime/planner.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "runtime/bands.h"
#include "runtime/inference.h"
#include "runtime/phases.h"
#include "runtime/placement.h"
#include "runtime/shapes.h"
#include "runtime/slices.h"

namespace qfx {
namespace {

Location location(const Draft& draft, const Phases& phases, const Place& place) {
  const Storage& s = draft.storages[place.storage];
  return {s.base, s.index, place.offset + phases.layout.offsets[place.storage]};
}

// The works in their turn, with where their operands and results are.
void take_works(Plan& plan, Draft& draft, const Phases& phases) {
  int phase = 0;
  for (const Turn& turn : phases.turns) {
    PlannedWork work = std::move(draft.works[turn.task]);
    const Draft::Operands& operands = draft.operands[turn.task];
    for (const Place& p : operands.in) work.in.push_back(location(draft, phases, p));
    for (const Place& p : operands.out) work.out.push_back(location(draft, phases, p));
    if (phases.single[turn.task]) work.max_threads = 1;
    work.lane = turn.lane;
    work.barrier = turn.phase != phase;
    phase = turn.phase;
    plan.max_threads = std::max(plan.max_threads, turn.lane + 1);
    plan.slots += work.in.size() + work.out.size();
    plan.works.push_back(std::move(work));
  }
}

Plan bind(std::shared_ptr<const LoadedProgram> loaded, ShapeInference shapes, const std::vector<int>& outputs,
          Draft draft, const Phases& phases) {
  Plan plan;
  plan.loaded = std::move(loaded);
  plan.inputs = shapes.inputs();
  for (const int v : outputs) plan.output_shapes.push_back(shapes.shape(v));
  plan.views = std::move(draft.views);
  plan.names = std::move(draft.names);
  plan.works.reserve(draft.works.size());
  plan.values.reserve(draft.values.size());
  plan.arena_bytes = phases.layout.bytes;
  plan.largest_live_bytes = phases.layout.largest_live;
  plan.scratch_bytes = draft.scratch_bytes;
  plan.max_threads = draft.max_threads;
  take_works(plan, draft, phases);
  for (Dims& shape : shapes.take_shapes()) {
    const Place& place = draft.values[plan.values.size()];
    const bool defined = place.storage >= 0;
    plan.values.push_back({defined, std::move(shape), defined ? location(draft, phases, place) : Location()});
  }
  return plan;
}

Plan plan_whole(std::shared_ptr<const LoadedProgram> loaded, ShapeInference shapes, const PlanOptions& options,
                PhaseCache* known) {
  const std::vector<int>& outputs = loaded->program->outputs();
  Placement placement(*loaded, shapes, options);
  placement.add_steps(0, loaded->program->steps().size(), outputs);
  for (size_t o = 0; o < outputs.size(); ++o) placement.add_output(static_cast<int>(o), outputs[o]);
  Draft draft = placement.take();
  const auto phases =
      known != nullptr ? known->find(draft, options) : std::make_shared<const Phases>(find_phases(draft, options, {}));
  return bind(std::move(loaded), std::move(shapes), outputs, std::move(draft), *phases);
}

// The first steps; `value`, which they are for, is output 0. All slices have the same works in the same order.
Plan plan_head(std::shared_ptr<const LoadedProgram> loaded, ShapeInference shapes, const PlanOptions& options,
               int steps, int value) {
  Placement placement(*loaded, shapes, options);
  placement.add_steps(0, static_cast<size_t>(steps), {value});
  placement.add_output(0, value);
  Draft draft = placement.take();
  const Phases phases = find_phases(draft, options, {.in_order = true});
  return bind(std::move(loaded), std::move(shapes), {value}, std::move(draft), phases);
}

// Room for what the slices need, and their place before the works.
void add_slices(Plan& plan, Slices slices, const Location& out) {
  for (const auto& head : slices.plans) {
    slices.arena_bytes = std::max(slices.arena_bytes, head->arena_bytes);
    plan.scratch_bytes = std::max(plan.scratch_bytes, head->scratch_bytes);
    plan.max_threads = std::max(plan.max_threads, head->max_threads);
  }
  const auto most = static_cast<size_t>(std::numeric_limits<int>::max());
  plan.max_threads = std::max(plan.max_threads, static_cast<int>(std::min(slices.parts.size(), most)));
  const std::vector<std::string_view>& views = slices.plans[0]->views;
  plan.views.insert(plan.views.begin(), views.begin(), views.end());
  slices.out = out;
  plan.slices = std::make_unique<const Slices>(std::move(slices));
}

// The steps after the first ones, which `slices` run: they write `value` before these start.
Plan plan_tail(std::shared_ptr<const LoadedProgram> loaded, ShapeInference shapes, const PlanOptions& options,
               int steps, int value, Slices slices) {
  const Program& program = *loaded->program;
  for (int s = 0; s < steps; ++s) shapes.infer(static_cast<size_t>(s));
  Placement placement(*loaded, shapes, options);
  const Place written = placement.reserve(value);
  placement.add_steps(static_cast<size_t>(steps), program.steps().size(), program.outputs());
  for (size_t o = 0; o < program.outputs().size(); ++o) {
    placement.add_output(static_cast<int>(o), program.outputs()[o]);
  }
  Draft draft = placement.take();
  const Phases phases = find_phases(draft, options, {.written = written.storage});
  const Location out = location(draft, phases, written);
  Plan plan = bind(std::move(loaded), std::move(shapes), program.outputs(), std::move(draft), phases);
  add_slices(plan, std::move(slices), out);
  return plan;
}

Slices plan_images(const std::shared_ptr<const LoadedProgram>& loaded, const std::vector<InputLayout>& inputs,
                   const PlanOptions& options, const SliceChoice& choice) {
  Slices slices;
  std::vector<InputLayout> images;
  images.reserve(inputs.size());
  for (const InputLayout& input : inputs) images.push_back(first_images(input, choice.images));
  Plan head = plan_head(loaded, {*loaded, images}, options, choice.steps, choice.value);
  const auto& values = loaded->program->values();
  const int64_t out_bytes = byte_size(head.output_shapes[0], values[choice.value].dtype);
  slices.plans.push_back(std::make_unique<const Plan>(std::move(head)));
  for (int64_t i = 0; i < choice.count; ++i) {
    Slice slice{0, {}, i * out_bytes};
    for (size_t k = 0; k < inputs.size(); ++k) {
      const int64_t each = element_size(values[loaded->program->inputs()[k]].dtype);
      slice.input_bytes.push_back(i * choice.images * inputs[k].strides[0] * each);
    }
    slices.parts.push_back(std::move(slice));
  }
  return slices;
}

// Nothing where one of the bands can't be made.
std::optional<Slices> plan_bands(const std::shared_ptr<const LoadedProgram>& loaded,
                                 const std::vector<InputLayout>& inputs, const PlanOptions& options,
                                 const BandChoice& choice) {
  Slices slices;
  slices.are_bands = true;
  std::vector<Band> planned;
  const auto& values = loaded->program->values();
  const Dims& out = choice.shapes[choice.value];
  const int64_t out_row = byte_size(out, values[choice.value].dtype) / out[1];
  const int input = loaded->program->inputs()[0];
  const auto axis = static_cast<size_t>(row_axis(*loaded, input));
  const int64_t input_row = inputs[0].strides[axis] * element_size(values[input].dtype);
  for (int64_t row = 0; row < out[1]; row += choice.rows) {
    auto band = band_of(*loaded, choice, {row, std::min(out[1], row + choice.rows)});
    if (!band) return std::nullopt;
    const auto same = std::ranges::find_if(planned, [&](const Band& other) { return band->has_plan_of(other); });
    slices.parts.push_back(
        {static_cast<int>(same - planned.begin()), {band->values[input].first * input_row}, row * out_row});
    if (same != planned.end()) continue;
    const InputLayout rows{band->shapes[input], inputs[0].strides};
    slices.plans.push_back(std::make_unique<const Plan>(
        plan_head(loaded, {*loaded, {rows}, &*band}, options, choice.steps, choice.value)));
    planned.push_back(std::move(*band));
  }
  return slices;
}

}  // namespace

Plan make_plan(std::shared_ptr<const LoadedProgram> loaded, const std::vector<InputLayout>& inputs,
               const PlanOptions& options, PhaseCache* known) {
  ShapeInference shapes(*loaded, inputs);  // checks the inputs
  if (options.keep_values) return plan_whole(std::move(loaded), std::move(shapes), options, nullptr);
  if (options.slices) {
    if (const auto choice = choose_slices(*loaded, inputs)) {
      Slices images = plan_images(loaded, inputs, options, *choice);
      return plan_tail(loaded, std::move(shapes), options, choice->steps, choice->value, std::move(images));
    }
  }
  if (options.bands) {
    if (const auto choice = choose_bands(*loaded, inputs, options.cached_bytes)) {
      auto bands = plan_bands(loaded, inputs, options, *choice);
      if (bands) return plan_tail(loaded, std::move(shapes), options, choice->steps, choice->value, std::move(*bands));
    }
  }
  return plan_whole(std::move(loaded), std::move(shapes), options, known);
}

}  // namespace qfx
