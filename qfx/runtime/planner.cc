#include "runtime/planner.h"

#include <algorithm>
#include <limits>
#include <map>
#include <numeric>
#include <optional>
#include <stdexcept>

#include "runtime/arena.h"
#include "runtime/bands.h"
#include "runtime/errors.h"
#include "runtime/schedule.h"
#include "runtime/shapes.h"
#include "runtime/slices.h"

namespace qfx {
namespace {

using Base = Location::Base;

// A stretch of memory that one or more values share.
struct Storage {
  Base base = Base::arena;
  int index = 0;
  int64_t bytes = 0;
  bool read = false;
};

// Results of works that come earlier than they have to, so that they share a phase: small ones, that stay in cache
// until they are read. The most of these bytes whose memory is within kMemoryForPhases of what it would be without.
constexpr int64_t kLargestInPhases[] = {256 * 1024, 64 * 1024, 16 * 1024};
constexpr double kMemoryForPhases = 1.1;

// Consecutive channels of a value.
struct Channels {
  int value = -1;
  int64_t channel = 0;
};

// Who reads the values that some steps of a program write.
class Readers {
 public:
  struct Use {
    int step;
    size_t operand;
  };

  Readers(const Program& program, size_t first, size_t last, const std::vector<int>& outputs)
      : uses_(program.values().size()), leaves_(program.values().size(), 0) {
    for (size_t s = first; s < last; ++s) {
      const std::vector<int>& inputs = program.steps()[s].inputs;
      for (size_t i = 0; i < inputs.size(); ++i) uses_[inputs[i]].push_back({static_cast<int>(s), i});
    }
    for (const int v : outputs) leaves_[v] = 1;
  }

  const std::vector<Use>& of(int value) const { return uses_[value]; }
  bool leaves(int value) const { return leaves_[value] != 0; }

  template <class Predicate>
  bool all(int value, const Predicate& predicate) const {
    return std::all_of(uses_[value].begin(), uses_[value].end(),
                       [&](const Use& use) { return predicate(use.step, use.operand); });
  }

 private:
  std::vector<std::vector<Use>> uses_;
  std::vector<char> leaves_;
};

// A place inside a storage.
struct Place {
  int storage = -1;
  int64_t offset = 0;
};

int64_t byte_size(const Dims& shape, DType dtype) {
  return qfx::byte_size(element_count(shape), dtype);
}

// The plan of a whole program, of its first steps, or of the steps after those.
class Planner {
 public:
  // band: if set, the inputs are those of this band.
  Planner(std::shared_ptr<const LoadedProgram> loaded, const std::vector<InputLayout>& inputs,
          const PlanOptions& options, const Band* band = nullptr)
      : program_(*loaded->program), options_(options), band_(band) {
    plan_.loaded = std::move(loaded);
    shapes_.resize(program_.values().size());
    places_.resize(program_.values().size());
    external_.assign(program_.values().size(), -1);
    bind_constants();
    bind_inputs(inputs);
  }

  Plan run() {
    plan_steps(0, program_.steps().size(), program_.outputs());
    return finish(program_.outputs());
  }

  // The first steps; the value that they are for is output 0.
  Plan run_head(int steps, int value) {
    keeps_order_ = true;
    plan_steps(0, steps, {value});
    return finish({value});
  }

  // The steps after the first ones, which `slices` run: they write `value` before these start.
  Plan run_tail(int steps, int value, Slices slices) {
    for (int s = 0; s < steps; ++s) infer_step(s);
    const Place place = places_[value] = new_buffer(shapes_[value], program_.values()[value].dtype);
    plan_steps(steps, program_.steps().size(), program_.outputs());
    bind_slices(std::move(slices), place);
    return finish(program_.outputs());
  }

 private:
  Plan finish(const std::vector<int>& outputs) {
    for (size_t o = 0; o < outputs.size(); ++o) bind_output(static_cast<int>(o), outputs[o]);
    place_storages();
    finish_slices();
    finish_works();
    finish_values();
    return std::move(plan_);
  }

  struct Pending {  // parallel to plan_.works
    std::vector<Place> in, out;
  };

  int add_storage(Storage storage) {
    storages_.push_back(storage);
    return static_cast<int>(storages_.size()) - 1;
  }

  void bind_constants() {
    for (size_t v = 0; v < shapes_.size(); ++v) {
      const Value& value = program_.values()[v];
      if (value.constant < 0) continue;
      shapes_[v] = value.shape;
      places_[v] = {add_storage({Base::constant, value.constant, byte_size(value.shape, value.dtype)}), 0};
    }
  }

  void bind_inputs(const std::vector<InputLayout>& inputs) {
    const auto& ids = program_.inputs();
    if (inputs.size() != ids.size()) {
      throw InputError("inputs", "The program takes " + std::to_string(ids.size()) + " inputs, not " +
                                     std::to_string(inputs.size()) + ".");
    }
    for (size_t i = 0; i < ids.size(); ++i) {
      const Value& value = program_.values()[ids[i]];
      check_declared(value, inputs[i].shape, value.name);
      if (inputs[i].strides.size() != inputs[i].shape.size()) {
        throw InputError(value.name, "The input has as many strides as dimensions.");
      }
      plan_.inputs.push_back(inputs[i]);
      canonicalize_strides(plan_.inputs[i].shape, plan_.inputs[i].strides);
      shapes_[ids[i]] = inputs[i].shape;
      external_[ids[i]] = static_cast<int>(i);
    }
  }

  static void check_declared(const Value& value, const Dims& shape, const std::string& where) {
    bool fits = shape.size() == value.rank();
    for (size_t d = 0; fits && d < shape.size(); ++d) fits = value.shape[d] < 0 || value.shape[d] == shape[d];
    if (!fits) {
      throw InputError(where, "'" + value.name + "' has shape " + to_string(shape) + ", the program expects " +
                                  to_string(value.shape) + " (-1: any).");
    }
    try {
      element_count(shape);
    } catch (const std::invalid_argument& error) {
      throw InputError(where, error.what());
    }
  }

  // The caller's memory as it is. Read only by steps that take strides, or where it is dense.
  Place external_place(int value) {
    const auto known = external_storage_.find(value);
    if (known != external_storage_.end()) return {known->second, 0};
    const int64_t bytes = byte_size(shapes_[value], program_.values()[value].dtype);
    const int id = add_storage({Base::input, external_[value], bytes});
    external_storage_[value] = id;
    return {id, 0};
  }

  // A dense place that a kernel may read past the end of. Copies a program input on its first use unless it is
  // dense, of a type that is read to its end only.
  Place dense_place(int value) {
    if (places_[value].storage >= 0) return places_[value];
    const InputLayout& layout = plan_.inputs[external_[value]];
    const Value& v = program_.values()[value];
    if (element_count(layout.shape) == 0) {
      places_[value] = new_buffer(layout.shape, v.dtype);
    } else if (!is_read_past_end(v.dtype) && is_dense(layout.shape, layout.strides)) {
      places_[value] = external_place(value);
    } else {
      const Place source = external_place(value);
      const Place target = new_buffer(layout.shape, v.dtype);
      auto copy = plan_copy({layout.shape, layout.strides, 0, element_size(v.dtype)}, plan_.loaded->isa);
      add_work(std::move(copy), -1, v.name, "copy_input", {source}, target, layout.shape, v.dtype);
      places_[value] = target;
    }
    return places_[value];
  }

  Place new_buffer(const Dims& shape, DType dtype) {
    return {add_storage({Base::arena, 0, byte_size(shape, dtype)}), 0};
  }

  void add_work(std::unique_ptr<Work> work, int step, std::string name, std::string op, std::vector<Place> in,
                Place out, const Dims& shape, DType dtype) {
    add_work(std::move(work), step, std::move(name), std::move(op), std::move(in), {out}, shape,
             {byte_size(shape, dtype)});
  }

  // shape: of the first in `out`. out_bytes: that the work writes in each.
  void add_work(std::unique_ptr<Work> work, int step, std::string name, std::string op, std::vector<Place> in,
                std::vector<Place> out, const Dims& shape, std::vector<int64_t> out_bytes) {
    PlannedWork planned;
    planned.work = std::move(work);
    planned.step = step;
    planned.name = std::move(name);
    planned.op = std::move(op);
    planned.shape = shape;
    planned.bytes = std::accumulate(out_bytes.begin(), out_bytes.end(), int64_t{0});
    planned.out_bytes = std::move(out_bytes);
    planned.max_threads = static_cast<int>(
        std::clamp<int64_t>(planned.work->cost() / options_.cost_per_thread, 1, std::numeric_limits<int>::max()));
    plan_.max_threads = std::max(plan_.max_threads, planned.max_threads);
    plan_.scratch_bytes = std::max(plan_.scratch_bytes, planned.work->scratch_bytes());
    plan_.works.push_back(std::move(planned));
    for (const Place& p : in) storages_[p.storage].read = true;
    pending_.push_back({std::move(in), std::move(out)});
  }

  void plan_steps(size_t first, size_t last, const std::vector<int>& outputs) {
    for (size_t s = first; s < last; ++s) named(s, [&] { infer_step(s); });
    if (!options_.keep_values) find_channels_in_place(first, last, outputs);
    for (size_t s = first; s < last; ++s) named(s, [&] { plan_kernel(s); });
  }

  // Values that a step puts side by side are written there by the steps that make them, and values that a step takes
  // apart are read where they lie, where all who are concerned can keep a distance between pixels.
  void find_channels_in_place(size_t first, size_t last, const std::vector<int>& outputs) {
    const Readers readers(program_, first, last, outputs);
    std::vector<char> can_place(places_.size(), 0);
    for (size_t s = first; s < last; ++s) {
      const Step& step = program_.steps()[s];
      can_place[step.output()] = plan_.loaded->rows[s]->pixel_strides && element_count(shapes_[step.output()]) > 0;
      if (plan_.loaded->kernels[s]->joins_channels() && step.inputs.size() > 1) {
        int64_t at = 0;
        for (const int v : step.inputs) {
          if (can_place[v] && readers.of(v).size() == 1 && !readers.leaves(v)) joined_[v] = {step.output(), at};
          at += shapes_[v].back();
        }
      }
      const int64_t channel = plan_.loaded->kernels[s]->first_channel(infer_step(s));
      const bool is_dense = external_[step.inputs[0]] < 0 && split_.count(step.inputs[0]) == 0;
      const bool reads_pixels = !readers.leaves(step.output()) && readers.all(step.output(), [&](int reader, size_t i) {
        return plan_.loaded->rows[reader]->pixel_strides && i == 0;
      });
      if (channel >= 0 && is_dense && reads_pixels) split_[step.output()] = {step.inputs[0], channel};
    }
  }

  template <class Body>
  void named(size_t s, const Body& body) const {
    const Step& step = program_.steps()[s];
    try {
      body();
    } catch (const std::invalid_argument& error) {
      throw InputError(step.name,
                       "Step '" + step.name + "' (" + step.op + ") can't take these shapes: " + error.what() + ".");
    }
  }

  // The shapes of a step, with the caller's strides where it can read them.
  StepShapes infer_step(size_t s) {
    const Step& step = program_.steps()[s];
    StepShapes in = step_shapes(*plan_.loaded, s, shapes_);
    if (band_ != nullptr) shape_operands(s, in);
    for (size_t i = 0; i < step.inputs.size(); ++i) {
      const int input = external_[step.inputs[i]];
      if (plan_.loaded->rows[s]->strided_input && input >= 0) in.strides[i] = plan_.inputs[input].strides;
    }
    if (band_ != nullptr) {
      shapes_[step.output()] = band_->shapes[step.output()];
      return in;
    }
    std::vector<Dims> inferred = plan_.loaded->kernels[s]->shapes(in);
    for (size_t i = 0; i < step.outputs.size(); ++i) {
      check_declared(program_.values()[step.outputs[i]], inferred[i], step.name);
      shapes_[step.outputs[i]] = std::move(inferred[i]);
    }
    return in;
  }

  // The rows that a step of a band reads, of those that are there.
  void shape_operands(size_t s, StepShapes& in) const {
    const Step& step = program_.steps()[s];
    for (size_t i = 0; i < step.inputs.size(); ++i) {
      if (!in_band(step.inputs[i])) continue;
      in.inputs[i][1] = band_->operands[s][i].count();
      in.strides[i] = dense_strides(in.inputs[i]);
    }
    in.row_padding = band_->padding[s];
  }

  // Whether a value holds rows of the band, in a buffer of this plan.
  bool in_band(int value) const {
    return band_ != nullptr && external_[value] < 0 && program_.values()[value].constant < 0;
  }

  Place from_row(Place place, int value, int64_t row) const {
    place.offset += row * byte_size(shapes_[value], program_.values()[value].dtype) / shapes_[value][1];
    return place;
  }

  void plan_kernel(size_t s) {
    const Step& step = program_.steps()[s];
    const StepKernel& kernel = *plan_.loaded->kernels[s];
    StepShapes in = infer_step(s);
    const Value& output = program_.values()[step.output()];
    const Dims& y = shapes_[step.output()];
    if (std::all_of(step.outputs.begin(), step.outputs.end(), [&](int v) { return element_count(shapes_[v]) == 0; })) {
      for (const int v : step.outputs) places_[v] = new_buffer(shapes_[v], program_.values()[v].dtype);
      return;
    }
    if (const auto whole = split_.find(step.output()); whole != split_.end()) {
      Place source = dense_place(whole->second.value);
      source.offset += whole->second.channel * element_size(output.dtype);
      places_[step.output()] = source;
      plan_.views.push_back(step.name);
      return;
    }
    for (const int v : step.inputs) in.placed.push_back(is_in_place(v, step.output()));
    if (std::find(in.placed.begin(), in.placed.end(), 0) == in.placed.end()) {
      plan_.views.push_back(step.name);
      return;
    }
    if (const auto part = split_.find(step.inputs[0]); part != split_.end()) {
      in.x_pixel_stride = shapes_[part->second.value].back();
    }
    const auto join = joined_.find(step.output());
    if (join != joined_.end()) in.y_pixel_stride = shapes_[join->second.value].back();
    Planned planned = kernel.plan(in, y);
    std::vector<Place> operands;
    for (size_t i = 0; i < step.inputs.size(); ++i) {
      const int v = step.inputs[i];
      operands.push_back(plan_.loaded->rows[s]->strided_input && external_[v] >= 0 ? external_place(v)
                                                                                   : dense_place(v));
      if (in_band(v)) operands.back() = from_row(operands.back(), v, band_->starts[s][i]);
    }
    if (planned.work == nullptr) return bind_view(step, operands[0], planned.view_offset, y, output.dtype);
    if (planned.prepare != nullptr) {
      const DType dtype = program_.values()[step.inputs[0]].dtype;
      const Place temporary = new_buffer(in.inputs[0], dtype);
      add_work(std::move(planned.prepare), static_cast<int>(s), step.name, "prepare", {operands[0]}, temporary,
               in.inputs[0], dtype);
      operands[0] = temporary;
    }
    if (join != joined_.end()) places_[step.output()] = place_in(join->second, output.dtype);
    add_step_work(s, std::move(planned), std::move(operands));
  }

  // The work of step `s`, into the places of its results and what more it needs.
  void add_step_work(size_t s, Planned planned, std::vector<Place> operands) {
    const Step& step = program_.steps()[s];
    std::vector<Place> out;
    std::vector<int64_t> out_bytes;
    for (const int v : step.outputs) {
      out.push_back(target_of(v));
      out_bytes.push_back(byte_size(shapes_[v], program_.values()[v].dtype));
    }
    if (planned.room > 0) {
      out.push_back({add_storage({Base::arena, 0, planned.room}), 0});
      out_bytes.push_back(planned.room);
    }
    add_work(std::move(planned.work), static_cast<int>(s), step.name, step.op, std::move(operands), std::move(out),
             shapes_[step.output()], std::move(out_bytes));
  }

  bool is_in_place(int value, int whole) const {
    const auto found = joined_.find(value);
    return found != joined_.end() && found->second.value == whole;
  }

  // The buffer of a value, made by whoever writes to it first.
  Place target_of(int value) {
    Place& place = places_[value];
    if (place.storage < 0) place = new_buffer(shapes_[value], program_.values()[value].dtype);
    return place;
  }

  Place place_in(const Channels& channels, DType dtype) {
    Place place = target_of(channels.value);
    place.offset += channels.channel * element_size(dtype);
    return place;
  }

  // The caller's memory has no slack to read past its end, so a view of such a type is a copy.
  void bind_view(const Step& step, Place source, int64_t offset, const Dims& y, DType dtype) {
    source.offset += offset;
    if (storages_[source.storage].base == Base::input && is_read_past_end(dtype)) {
      const Place target = new_buffer(y, dtype);
      add_work(dense_copy(y, dtype), -1, step.name, "copy_input", {source}, target, y, dtype);
      source = target;
    } else {
      plan_.views.push_back(step.name);
    }
    places_[step.output()] = source;
  }

  std::unique_ptr<Work> dense_copy(const Dims& shape, DType dtype) const {
    return plan_copy({{element_count(shape)}, {1}, 0, element_size(dtype)}, plan_.loaded->isa);
  }

  // A buffer that nothing else reads becomes the caller's memory; anything else is copied there.
  void bind_output(int o, int v) {
    const DType dtype = program_.values()[v].dtype;
    const Dims& shape = shapes_[v];
    plan_.output_shapes.push_back(shape);
    if (element_count(shape) == 0) return;
    const Place place = dense_place(v);
    Storage& s = storages_[place.storage];
    if (s.base == Base::arena && !s.read && place.offset == 0 && s.bytes == byte_size(shape, dtype)) {
      s.base = Base::output;
      s.index = o;
      return;
    }
    const Place target{add_storage({Base::output, o, byte_size(shape, dtype)}), 0};
    add_work(dense_copy(shape, dtype), -1, program_.values()[v].name, "copy_output", {place}, target, shape, dtype);
  }

  void bind_slices(Slices slices, const Place& place) {
    for (const auto& head : slices.plans) {
      slices.arena_bytes = std::max(slices.arena_bytes, head->arena_bytes);
      plan_.scratch_bytes = std::max(plan_.scratch_bytes, head->scratch_bytes);
      plan_.max_threads = std::max(plan_.max_threads, head->max_threads);
    }
    const auto most = static_cast<size_t>(std::numeric_limits<int>::max());
    plan_.max_threads = std::max(plan_.max_threads, static_cast<int>(std::min(slices.parts.size(), most)));
    const std::vector<std::string>& views = slices.plans[0]->views;
    plan_.views.insert(plan_.views.begin(), views.begin(), views.end());
    slices_ = std::move(slices);
    sliced_ = place;
  }

  void finish_slices() {
    if (!slices_) return;
    slices_->out = location(sliced_);
    plan_.slices = std::make_unique<const Slices>(std::move(*slices_));
  }

  // The works in turn, and where their memory is: in the order that lets the most of them share phases, unless that
  // takes clearly more memory.
  void place_storages() {
    const std::vector<Task> tasks = tasks_of_works();
    std::vector<Turn> turns = schedule(tasks, {0, options_.cost_per_thread});
    ArenaLayout layout = lay_out(turns);
    const auto budget = static_cast<int64_t>(kMemoryForPhases * static_cast<double>(layout.bytes));
    for (const int64_t largest : kLargestInPhases) {
      if (keeps_order_) break;
      std::vector<Turn> shared = schedule(tasks, {largest, options_.cost_per_thread});
      ArenaLayout other = lay_out(shared);
      if (other.bytes > budget) continue;
      turns = std::move(shared);
      layout = std::move(other);
      break;
    }
    order_works(turns);
    arena_offset_ = std::move(layout.offsets);
    plan_.arena_bytes = layout.bytes;
    plan_.largest_live_bytes = layout.largest_live;
  }

  // What is in a storage is written once, a part by each of its writers, before anything is read.
  std::vector<Task> tasks_of_works() const {
    std::vector<std::vector<int>> writers(storages_.size());
    std::vector<Task> tasks;
    for (size_t w = 0; w < pending_.size(); ++w) {
      const PlannedWork& work = plan_.works[w];
      Task task{{}, work.bytes, work.work->cost(), work.max_threads, work.work->meets()};
      for (const Place& p : pending_[w].in) {
        task.needs.insert(task.needs.end(), writers[p.storage].begin(), writers[p.storage].end());
      }
      tasks.push_back(std::move(task));
      for (const Place& p : pending_[w].out) writers[p.storage].push_back(static_cast<int>(w));
    }
    return tasks;
  }

  // Offsets of all storages; zero outside the arena.
  ArenaLayout lay_out(const std::vector<Turn>& turns) const {
    const int end = turns.empty() ? 0 : turns.back().tick;
    std::vector<Lifetime> lifetimes(storages_.size(), {0, end + 1, -1});
    const auto touch = [&](const Place& place, int tick) {
      const Storage& s = storages_[place.storage];
      if (s.base != Base::arena) return;
      Lifetime& l = lifetimes[place.storage];
      l.bytes = s.bytes;
      l.first = options_.keep_values ? 0 : std::min(l.first, tick);
      l.last = options_.keep_values ? end : std::max(l.last, tick);
    };
    for (const Turn& turn : turns) {
      for (const Place& p : pending_[turn.task].in) touch(p, turn.tick);
      for (const Place& p : pending_[turn.task].out) touch(p, turn.tick);
    }
    if (slices_) touch(sliced_, 0);
    return place_buffers(lifetimes);
  }

  void order_works(const std::vector<Turn>& turns) {
    std::vector<PlannedWork> works;
    std::vector<Pending> pending;
    int phase = 0;
    for (const Turn& turn : turns) {
      works.push_back(std::move(plan_.works[turn.task]));
      works.back().lane = turn.lane;
      works.back().barrier = turn.phase != phase;
      plan_.max_threads = std::max(plan_.max_threads, turn.lane + 1);
      pending.push_back(std::move(pending_[turn.task]));
      phase = turn.phase;
    }
    plan_.works = std::move(works);
    pending_ = std::move(pending);
  }

  Location location(const Place& place) const {
    const Storage& s = storages_[place.storage];
    return {s.base, s.index, place.offset + arena_offset_[place.storage]};
  }

  void finish_works() {
    for (size_t w = 0; w < plan_.works.size(); ++w) {
      PlannedWork& work = plan_.works[w];
      for (const Place& p : pending_[w].in) work.in.push_back(location(p));
      for (const Place& p : pending_[w].out) work.out.push_back(location(p));
      plan_.slots += work.in.size() + work.out.size();
    }
  }

  void finish_values() {
    for (size_t v = 0; v < shapes_.size(); ++v) {
      PlannedValue value;
      value.shape = shapes_[v];
      value.defined = places_[v].storage >= 0;
      if (value.defined) value.location = location(places_[v]);
      plan_.values.push_back(std::move(value));
    }
  }

  const Program& program_;
  PlanOptions options_;
  const Band* band_;
  bool keeps_order_ = false;  // all slices have the same works in the same order
  Plan plan_;
  std::vector<Dims> shapes_;
  std::vector<Place> places_;       // of each value; none yet: storage -1
  std::map<int, Channels> joined_;  // values that are written into another
  std::map<int, Channels> split_;   // values that are read out of another
  std::vector<int> external_;       // which program input a value is, or -1
  std::map<int, int> external_storage_;
  std::vector<Storage> storages_;
  std::vector<int64_t> arena_offset_;
  std::vector<Pending> pending_;
  std::optional<Slices> slices_;
  Place sliced_;  // what the slices write
};

}  // namespace

LoadedProgram::LoadedProgram(std::shared_ptr<const Program> p, Isa chosen) : program(std::move(p)), isa(chosen) {
  for (const Step& step : program->steps()) {
    rows.push_back(find_op(step.op));
    try {
      kernels.push_back(rows.back()->load(StepView(*program, step), isa));
    } catch (const std::invalid_argument& error) {
      throw ProgramError(step.name, error.what());
    }
    packed_bytes += kernels.back()->packed_bytes();
  }
}

StepShapes step_shapes(const LoadedProgram& loaded, size_t s, const std::vector<Dims>& values) {
  const Step& step = loaded.program->steps()[s];
  StepShapes in;
  for (const int v : step.inputs) {
    in.inputs.push_back(values[v]);
    in.strides.push_back(dense_strides(values[v]));
  }
  for (const auto& [name, ids] : step.exprs) {
    for (const int e : ids) in.exprs[name].push_back(evaluate(loaded.program->exprs(), e, values));
    in.exprs.try_emplace(name);
  }
  return in;
}

namespace {

Slices plan_images(const std::shared_ptr<const LoadedProgram>& loaded, const std::vector<InputLayout>& inputs,
                   const PlanOptions& options, const SliceChoice& choice) {
  Slices slices;
  std::vector<InputLayout> images;
  for (const InputLayout& input : inputs) images.push_back(first_images(input, choice.images));
  Plan head = Planner(loaded, images, options).run_head(choice.steps, choice.value);
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
    const auto same =
        std::find_if(planned.begin(), planned.end(), [&](const Band& other) { return band->has_plan_of(other); });
    slices.parts.push_back(
        {static_cast<int>(same - planned.begin()), {band->values[input].first * input_row}, row * out_row});
    if (same != planned.end()) continue;
    const InputLayout rows{band->shapes[input], inputs[0].strides};
    Planner planner(loaded, {rows}, options, &*band);
    slices.plans.push_back(std::make_unique<const Plan>(planner.run_head(choice.steps, choice.value)));
    planned.push_back(std::move(*band));
  }
  return slices;
}

}  // namespace

Plan make_plan(std::shared_ptr<const LoadedProgram> loaded, const std::vector<InputLayout>& inputs,
               const PlanOptions& options) {
  Planner planner(loaded, inputs, options);  // checks the inputs
  if (options.keep_values) return planner.run();
  if (options.slices) {
    if (const auto choice = choose_slices(*loaded, inputs)) {
      return planner.run_tail(choice->steps, choice->value, plan_images(loaded, inputs, options, *choice));
    }
  }
  if (options.bands) {
    if (const auto choice = choose_bands(*loaded, inputs, options.cached_bytes)) {
      auto bands = plan_bands(loaded, inputs, options, *choice);
      if (bands) return planner.run_tail(choice->steps, choice->value, std::move(*bands));
    }
  }
  return planner.run();
}

}  // namespace qfx
