#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include <cstring>
#include <memory>
#include <optional>
#include <span>

#include "core/isa.h"
#include "core/split.h"
#include "rounding/rounding.h"
#include "runtime/arena.h"
#include "runtime/errors.h"
#include "runtime/executable.h"
#include "runtime/fake_quant_bindings.h"
#include "runtime/peaks.h"
#include "runtime/program.h"
#include "runtime/program_bytes.h"
#include "runtime/python_values.h"
#include "runtime/serving/bindings.h"
#include "runtime/session.h"
#include "runtime/shapes.h"
#include "runtime/threads.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace qfx {
namespace {

using Array = nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu>;

nb::dlpack::dtype_code dlpack_code(DTypeRow::Kind kind) {
  using Kind = DTypeRow::Kind;
  using Code = nb::dlpack::dtype_code;
  switch (kind) {
    case Kind::unsigned_integer:
      return Code::UInt;
    case Kind::signed_integer:
      return Code::Int;
    case Kind::floating:
      return Code::Float;
    case Kind::bfloat:
      return Code::Bfloat;
    default:
      return Code::Bool;
  }
}

DType array_dtype(const Array& array) {
  const nb::dlpack::dtype given = array.dtype();
  for (const DTypeRow& row : kDTypes) {
    const auto code = static_cast<uint8_t>(dlpack_code(row.kind));
    if (given.code == code && given.bits == row.bits && given.lanes == 1) return row.dtype;
  }
  std::string names;
  for (const DTypeRow& row : kDTypes) names += *row.numpy != 0 ? std::string(" ") + row.numpy : std::string();
  throw nb::type_error(("constants are arrays of one of" + names).c_str());
}

Dims array_shape(const Array& array) {
  Dims shape;
  for (size_t i = 0; i < array.ndim(); ++i) shape.push_back(static_cast<int64_t>(array.shape(i)));
  return shape;
}

template <class T>
std::vector<T> one_or_more(nb::handle value) {
  T one{};
  if (nb::try_cast(value, one)) return {one};
  return nb::cast<std::vector<T>>(value);
}

// What an array says of a constant: its own type and shape; or, with a dtype, that its bytes are elements of that type,
// as many as `shape` says.
struct Content {
  DType dtype;
  Dims shape;

  Content(const Array& array, const std::string& given, std::optional<Dims> dims)
      : dtype(given.empty() ? array_dtype(array) : parse_dtype(given)),
        shape(dims ? std::move(*dims) : array_shape(array)) {
    if (byte_size(element_count(shape), dtype) == static_cast<int64_t>(array.nbytes())) return;
    throw nb::value_error(("the array has not the bytes of " + to_string(shape) + " of " + dtype_name(dtype)).c_str());
  }
};

// A dict whose values are one T or a sequence of them.
template <class T>
std::map<std::string, std::vector<T>> attributes(const nb::dict& given) {
  std::map<std::string, std::vector<T>> parsed;
  for (const auto& [name, value] : given) parsed[nb::cast<std::string>(name)] = one_or_more<T>(value);
  return parsed;
}

template <class T>
std::map<std::string, T> single_attributes(const nb::dict& given) {
  std::map<std::string, T> parsed;
  for (const auto& [name, value] : given) parsed[nb::cast<std::string>(name)] = nb::cast<T>(value);
  return parsed;
}

// `outputs` is one value or a sequence of them.
void add_step(ProgramBuilder& builder, std::string op, std::string name, std::vector<int> inputs,
              const nb::object& outputs, const nb::dict& ints, const nb::dict& floats, const nb::dict& exprs,
              const nb::dict& constants, const nb::dict& text) {
  try {
    builder.step({op, name, std::move(inputs), one_or_more<int>(outputs), attributes<int64_t>(ints),
                  attributes<double>(floats), attributes<int>(exprs), single_attributes<int>(constants),
                  single_attributes<std::string>(text)});
  } catch (const nb::cast_error&) {
    throw ProgramError(name, "an attribute of this '" + op + "' has a value of the wrong type");
  }
}

nb::tuple to_tuples(const std::vector<Dims>& shapes) {
  nb::list items;
  for (const Dims& s : shapes) items.append(to_tuple(s));
  return nb::tuple(items);
}

nb::tuple names(const std::vector<const char*>& kernels) {
  nb::list items;
  for (const char* name : kernels) items.append(name);
  return nb::tuple(items);
}

// The shape of the first operand of the whole step; empty for a copy.
nb::tuple operand(const Plan& plan, const PlannedWork& w) {
  if (w.step < 0) return to_tuple({});
  return to_tuple(plan.values[plan.loaded->program->steps()[w.step].inputs.at(0)].shape);
}

// One (step, name, op, kernel, kernels, shape, bytes, cost, macs, max_threads, barrier, slices, operand) a kernel.
void describe_works_of(const Plan& plan, nb::list& records) {
  for (const PlannedWork& w : plan.works) {
    records.append(nb::make_tuple(w.step, w.name, w.op, w.work->describe(), names(w.work->kernels()), to_tuple(w.shape),
                                  w.bytes, w.work->cost(), w.work->products(), w.max_threads, w.barrier, 1,
                                  operand(plan, w)));
  }
}

// What the slices of a work make together; what each of them makes, where that is the same.
Dims shape_of_slices(const Plan& plan, const PlannedWork& w) {
  const Slices& slices = *plan.slices;
  const int output = w.step < 0 ? -1 : plan.loaded->program->steps()[w.step].output();
  if (slices.are_bands) return output < 0 ? w.shape : plan.values[output].shape;
  if (output >= 0 && slices.plans[0]->values[output].shape == plan.values[output].shape) return w.shape;
  Dims shape = w.shape;
  shape[0] *= static_cast<int64_t>(slices.parts.size());
  return shape;
}

// Likewise, of all slices together: shapes of the whole batch or image, whatever the slices.
void describe_slices_of(const Plan& plan, nb::list& records) {
  const Slices& slices = *plan.slices;
  const auto count = static_cast<int64_t>(slices.parts.size());
  for (size_t i = 0; i < slices.plans[0]->works.size(); ++i) {
    const PlannedWork& w = slices.plans[0]->works[i];
    int64_t bytes = 0, cost = 0, products = 0;
    for (const Slice& slice : slices.parts) {
      const PlannedWork& part = slices.plans[slice.plan]->works[i];
      bytes += part.bytes;
      cost += part.work->cost();
      products += part.work->products();
    }
    records.append(nb::make_tuple(w.step, w.name, w.op, w.work->describe(), names(w.work->kernels()),
                                  to_tuple(shape_of_slices(plan, w)), bytes, cost, products,
                                  std::max<int64_t>(count, w.max_threads), false, count, operand(plan, w)));
  }
}

nb::list describe_works(const Plan& plan) {
  nb::list records;
  if (plan.slices != nullptr) describe_slices_of(plan, records);
  describe_works_of(plan, records);
  return records;
}

nb::dict describe_memory(const Plan& plan) {
  nb::dict memory;
  memory["arena_bytes"] = plan.arena_bytes;
  memory["largest_live_bytes"] = plan.largest_live_bytes;
  memory["slice_bytes"] = plan.slices != nullptr ? plan.slices->arena_bytes : 0;
  memory["scratch_bytes"] = plan.scratch_bytes;
  memory["packed_bytes"] = plan.loaded->packed_bytes;
  memory["constant_bytes"] = plan.loaded->constant_bytes;
  return memory;
}

nb::list describe_arena(const Plan& plan) {
  nb::list records;
  const auto places = [](const std::vector<Location>& locations) {
    nb::list found;
    for (const Location& l : locations) found.append(nb::make_tuple(static_cast<int>(l.base), l.index, l.offset));
    return nb::tuple(found);
  };
  for (const PlannedWork& w : plan.works) {
    records.append(nb::make_tuple(places(w.in), places(w.out), to_tuple(w.out_bytes)));
  }
  return records;
}

// Every level of this architecture, and why it is not supported here; empty where it is.
nb::dict isa_levels_found() {
  nb::dict found;
  for (const Isa isa : isa_levels()) found[isa_name(isa)] = why_unsupported(isa);
  return found;
}

nb::list isa_names() {
  nb::list names;
  for (const Isa isa : isa_levels()) {
    if (supported(isa)) names.append(isa_name(isa));
  }
  return names;
}

void run(Executable& executable, const Plan& plan, const nb::tuple& in, const nb::tuple& out, int threads) {
  const auto inputs = read_pointers<const void*>(in, plan.inputs.size());
  const auto outputs = read_pointers<void*>(out, plan.output_shapes.size());
  const nb::gil_scoped_release release;
  executable.run(plan, inputs, outputs, threads);
}

std::vector<double> time_works(Executable& executable, const Plan& plan, const nb::tuple& in, const nb::tuple& out,
                               int threads) {
  const auto inputs = read_pointers<const void*>(in, plan.inputs.size());
  const auto outputs = read_pointers<void*>(out, plan.output_shapes.size());
  const nb::gil_scoped_release release;
  return executable.time_works(plan, inputs, outputs, threads);
}

// {value id: (dtype, shape, bytes)}
nb::dict run_and_fetch(Executable& executable, const nb::tuple& layouts, const nb::tuple& in, const nb::tuple& out,
                       const std::vector<int>& ids, int threads) {
  const Program& program = *executable.loaded().program;
  const auto inputs = read_pointers<const void*>(in, program.inputs().size());
  const auto outputs = read_pointers<void*>(out, program.outputs().size());
  nb::dict fetched;
  executable.run_and_visit(
      read_layouts(layouts), inputs, outputs, ids, threads, [&](int id, const Dims& shape, const void* data) {
        const DType dtype = program.values()[id].dtype;
        const auto bytes = static_cast<size_t>(byte_size(element_count(shape), dtype));
        fetched[nb::int_(id)] =
            nb::make_tuple(dtype_name(dtype), to_tuple(shape), nb::bytes(static_cast<const char*>(data), bytes));
      });
  return fetched;
}

nb::tuple arena_layout(const nb::list& buffers) {
  std::vector<Lifetime> lifetimes;
  for (const nb::handle b : buffers) {
    const Dims fields = read_ints(b);
    lifetimes.push_back({fields.at(0), static_cast<int>(fields.at(1)), static_cast<int>(fields.at(2))});
  }
  const ArenaLayout layout = place_buffers(lifetimes);
  return nb::make_tuple(to_tuple(layout.offsets), layout.bytes, layout.largest_live);
}

nb::tuple value_specs(const Program& program, const std::vector<int>& ids) {
  nb::list specs;
  for (const int v : ids) {
    const Value& value = program.values()[v];
    specs.append(nb::make_tuple(value.name, dtype_name(value.dtype), to_tuple(value.shape)));
  }
  return nb::tuple(specs);
}

// The user's errors are those of qfx.errors, whichever language finds them.
template <class Error>
void raise_as(const char* kind, const Error& error, const char* remedy) {
  const nb::object type = nb::module_::import_("qfx.errors").attr(kind);
  const nb::object exception = type(error.what(), "where"_a = error.where(), "remedy"_a = remedy);
  PyErr_SetObject(type.ptr(), exception.ptr());
}

void translate(const std::exception_ptr& pointer, void*) {
  try {
    std::rethrow_exception(pointer);
  } catch (const ProgramError& error) {
    raise_as("RuntimeLoadError", error, "Build the program again; what a file holds, write again with this qfx.");
  } catch (const FileError& error) {
    const nb::object type = nb::module_::import_("qfx.errors").attr("InputError");
    const nb::object exception = type(error.what(), "why"_a = error.why(), "remedy"_a = error.remedy());
    PyErr_SetObject(type.ptr(), exception.ptr());
  } catch (const InputSumsError& error) {
    raise_as("InputSumsError", error, "Pass inputs of smaller sizes.");
  } catch (const InputValuesError& error) {
    raise_as("InputError", error, "Pass values that the model has entries for.");
  } catch (const LimitError& error) {
    raise_as("InputError", error, "Pass smaller inputs, or load the file with a higher limit.");
  } catch (const InputError& error) {
    raise_as("InputError", error, "Pass inputs as the program's input_specs say, of sizes that fit together.");
  }
}

// The program of an object's bytes; of such as somebody may still write to, a copy.
std::shared_ptr<Program> program_from(nb::handle given) {
  const std::shared_ptr<const Py_buffer> view = view_of(given);
  const auto size = static_cast<size_t>(view->len);
  std::span<const std::byte> bytes{static_cast<const std::byte*>(view->buf), size};
  std::shared_ptr<const void> owner = view;
  if (view->readonly == 0) {
    const auto copy = std::make_shared<AlignedBuffer>(size);
    std::memcpy(copy->data(), view->buf, size);
    bytes = {copy->data(), size};
    owner = copy;
  }
  const nb::gil_scoped_release release;
  return std::const_pointer_cast<Program>(program_of(bytes, std::move(owner)));
}

// Input, output, and the constant that it begins as, or None, of every state.
nb::tuple states_of(const Program& program) {
  nb::list found;
  for (const State& s : program.states()) {
    found.append(nb::make_tuple(s.input, s.output, s.initial < 0 ? nb::none() : nb::object(nb::int_(s.initial))));
  }
  return nb::tuple(found);
}

// Dtype, shape and bytes of every constant. The arrays are views: the program has to outlive them.
nb::list constants_of(nb::handle_t<Program> self) {
  nb::list found;
  for (const Constant& c : nb::cast<const Program&>(self).constants()) {
    const size_t count = c.data.size();
    nb::ndarray<nb::numpy, const uint8_t, nb::ndim<1>> bytes(c.data.data(), {count}, self);
    found.append(nb::make_tuple(dtype_name(c.dtype), to_tuple(c.shape), bytes));
  }
  return found;
}

void bind_program(nb::module_& m) {
  nb::class_<Program>(m, "Program", "An immutable, validated int8 program.")
      .def_prop_ro("inputs", [](const Program& p) { return p.inputs(); })
      .def_prop_ro("outputs", [](const Program& p) { return p.outputs(); })
      .def_prop_ro("input_specs", [](const Program& p) { return value_specs(p, p.inputs()); })
      .def_prop_ro("output_specs", [](const Program& p) { return value_specs(p, p.outputs()); })
      .def_prop_ro("step_names",
                   [](const Program& p) {
                     nb::list names;
                     for (const Step& s : p.steps()) names.append(s.name);
                     return names;
                   })
      .def_prop_ro("constant_bytes",
                   [](const Program& p) {
                     size_t bytes = 0;
                     for (const Constant& c : p.constants()) bytes += c.data.size();
                     return bytes;
                   })
      .def_prop_ro("constants", &constants_of)
      .def_prop_ro("states", &states_of)
      .def("to_bytes",
           [](const Program& p) {
             const std::string bytes = to_bytes(p);
             return nb::bytes(bytes.data(), bytes.size());
           })
      .def_static("from_bytes", &program_from, "bytes"_a);
}

std::shared_ptr<Program> build_program(ProgramBuilder& b, std::vector<int> inputs, std::vector<int> outputs) {
  return std::const_pointer_cast<Program>(b.build(std::move(inputs), std::move(outputs)));
}

void bind_builder(nb::module_& m) {
  nb::class_<ProgramBuilder>(m, "ProgramBuilder", "Collects the parts of a program; ids count from 0.")
      .def(nb::init<>())
      .def(
          "value",
          [](ProgramBuilder& b, std::string name, const std::string& dtype, Dims shape) {
            return b.value(std::move(name), parse_dtype(dtype), std::move(shape));
          },
          "name"_a, "dtype"_a, "shape"_a)
      .def(
          "constant_value",
          [](ProgramBuilder& b, std::string name, const Array& array, const std::string& dtype,
             std::optional<Dims> shape) {
            Content c(array, dtype, std::move(shape));
            return b.constant_value(std::move(name), c.dtype, std::move(c.shape), array.data());
          },
          "name"_a, "array"_a, "dtype"_a = "", "shape"_a = nb::none())
      .def(
          "constant",
          [](ProgramBuilder& b, const Array& array, const std::string& dtype, std::optional<Dims> shape) {
            Content c(array, dtype, std::move(shape));
            return b.constant(c.dtype, std::move(c.shape), array.data());
          },
          "array"_a, "dtype"_a = "", "shape"_a = nb::none())
      .def("expr_const", &ProgramBuilder::expr_const, "value"_a)
      .def("expr_dim", &ProgramBuilder::expr_dim, "value"_a, "axis"_a)
      .def(
          "expr",
          [](ProgramBuilder& b, const std::string& kind, int left, int right) {
            return b.expr(parse_expr_kind(kind), left, right);
          },
          "kind"_a, "a"_a, "b"_a = -1)
      .def("step", &add_step, "op"_a, "name"_a, "inputs"_a, "outputs"_a, nb::kw_only(), "ints"_a = nb::dict(),
           "floats"_a = nb::dict(), "exprs"_a = nb::dict(), "constants"_a = nb::dict(), "text"_a = nb::dict())
      .def(
          "state",
          [](ProgramBuilder& b, int input, int output, std::optional<int> initial) {
            b.state({input, output, initial.value_or(-1)});
          },
          "input"_a, "output"_a, "initial"_a = nb::none())
      .def("build", &build_program, "inputs"_a, "outputs"_a);
}

void bind_executable(nb::module_& m) {
  nb::class_<Plan>(m, "Plan", "A program bound to input shapes.")
      .def_prop_ro("output_shapes", [](const Plan& p) { return to_tuples(p.output_shapes); })
      .def_prop_ro("works", &describe_works)
      .def_prop_ro("memory", &describe_memory)
      .def_prop_ro("placement", &describe_arena)
      .def_prop_ro("views", [](const Plan& p) { return p.views; });

  nb::class_<Executable>(m, "Executable", "A program loaded for one ISA.")
      .def(
          "__init__",
          [](Executable* self, const std::shared_ptr<Program>& program, const std::string& isa, bool release) {
            const Isa chosen = isa.empty() ? selected_isa() : parse_isa(isa);
            const nb::gil_scoped_release released;
            new (self) Executable(program, chosen, release ? Release::copying : Release::nothing);
          },
          "program"_a, "isa"_a = "", "release"_a = false)
      .def_prop_ro("isa", [](const Executable& e) { return isa_name(e.loaded().isa); })
      .def_prop_ro("cached_plans", &Executable::cached_plans)
      .def(
          "plan",
          [](Executable& e, const nb::tuple& layouts) {
            std::vector<InputLayout> inputs = read_layouts(layouts);
            const nb::gil_scoped_release release;
            return std::const_pointer_cast<Plan>(e.plan(std::move(inputs)));
          },
          "layouts"_a)
      .def("run", &run, "plan"_a, "inputs"_a, "outputs"_a, "threads"_a)
      .def("time_works", &time_works, "plan"_a, "inputs"_a, "outputs"_a, "threads"_a)
      .def("run_and_fetch", &run_and_fetch, "layouts"_a, "inputs"_a, "outputs"_a, "ids"_a, "threads"_a);
}

nb::list type_names(DTypes types) {
  nb::list names;
  for (const DTypeRow& row : kDTypes) {
    if (holds(types, row.dtype)) names.append(row.name);
  }
  return names;
}

nb::dict describe_attribute(const Attribute& a) {
  constexpr const char* kinds[] = {"integer", "number", "expr", "constant", "text"};
  nb::dict described;
  described["name"] = a.name;
  described["kind"] = kinds[static_cast<int>(a.kind)];
  described["about"] = a.about;
  described["count"] = a.count;
  described["required"] = a.required;
  described["low"] = a.low;
  described["high"] = a.high;
  described["fallback"] = a.fallback;
  described["types"] = type_names(a.types);
  return described;
}

// One dict an operation; qfx/runtime/schema.py says what is in them.
nb::list describe_schemas() {
  constexpr const char* presences[] = {"required", "optional", "any"};
  nb::list schemas;
  for (const StepSchema& s : step_schemas()) {
    nb::list operands, results, attributes, flags;
    for (const Operand& o : s.operands) {
      operands.append(nb::make_tuple(o.name, type_names(o.types), presences[static_cast<int>(o.presence)]));
    }
    for (const Result& r : s.results) results.append(nb::make_tuple(r.name, type_names(r.types)));
    for (const Attribute& a : s.attributes) attributes.append(describe_attribute(a));
    const std::pair<const char*, bool> given[] = {{"strided_input", s.strided_input},
                                                  {"per_image", s.per_image},
                                                  {"row_window", s.row_window},
                                                  {"pixel_strides", s.pixel_strides}};
    for (const auto& [name, is_set] : given) {
      if (is_set) flags.append(name);
    }
    nb::dict schema;
    schema["op"] = s.op;
    schema["about"] = s.about;
    schema["operands"] = operands;
    schema["results"] = results;
    schema["attributes"] = attributes;
    schema["flags"] = flags;
    schemas.append(schema);
  }
  return schemas;
}

// (dtype, shape, bytes)
nb::tuple state_of(const Session& session, size_t state) {
  const auto bytes = static_cast<size_t>(byte_size(session.shape(state), session.dtype(state)));
  return nb::make_tuple(dtype_name(session.dtype(state)), to_tuple(session.shape(state)),
                        nb::bytes(static_cast<const char*>(session.data(state)), bytes));
}

void bind_session(nb::module_& m) {
  nb::class_<Session>(m, "Session", "Runs of an executable that keep values.")
      .def(nb::init<std::shared_ptr<Executable>>(), "executable"_a)
      .def(
          "set",
          [](Session& s, size_t state, const nb::tuple& shape, size_t address) {
            s.set(state, read_ints(shape), reinterpret_cast<const void*>(address));
          },
          "state"_a, "shape"_a, "address"_a)
      .def("get", &state_of, "state"_a)
      .def(
          "plan",
          [](Session& s, const nb::tuple& layouts) {
            std::vector<InputLayout> inputs = read_layouts(layouts);
            const nb::gil_scoped_release release;
            return std::const_pointer_cast<Plan>(s.plan(std::move(inputs)));
          },
          "layouts"_a)
      .def(
          "run",
          [](Session& s, const Plan& plan, const nb::tuple& in, const nb::tuple& out, int threads) {
            const auto inputs = read_pointers<const void*>(in, nb::len(in));
            const auto outputs = read_pointers<void*>(out, nb::len(out));
            const nb::gil_scoped_release release;
            s.run(plan, inputs, outputs, threads);
          },
          "plan"_a, "inputs"_a, "outputs"_a, "threads"_a);
}

using FloatArray = nb::ndarray<const float, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
using CodeArray = nb::ndarray<int8_t, nb::ndim<3>, nb::c_contig, nb::device::cpu>;

void round_to_moments(const FloatArray& target, const FloatArray& moments, CodeArray codes, int lo, int hi,
                      int threads) {
  rounding::Problem problem;
  problem.groups = static_cast<int64_t>(target.shape(0));
  problem.rows = static_cast<int64_t>(target.shape(1));
  problem.length = static_cast<int64_t>(target.shape(2));
  const bool fits = moments.shape(0) == target.shape(0) && moments.shape(1) == target.shape(2) &&
                    moments.shape(2) == target.shape(2) && codes.shape(0) == target.shape(0) &&
                    codes.shape(1) == target.shape(1) && codes.shape(2) == target.shape(2);
  if (!fits) throw nb::value_error("target and codes are [groups, rows, length], moments [groups, length, length]");
  problem.target = target.data();
  problem.moments = moments.data();
  problem.lo = lo;
  problem.hi = hi;
  const int team = num_threads(threads);
  const int64_t floats = rounding::scratch_floats(problem);
  std::vector<float> scratch(static_cast<size_t>(floats * team));
  struct Context {
    const rounding::Problem& problem;
    int8_t* codes;
    float* scratch;
    int64_t floats;
  } context{problem, codes.data(), scratch.data(), floats};
  const nb::gil_scoped_release release;
  refresh_thread_pool();
  parallel_region(
      team,
      [](void* data, int tid, int count) noexcept {
        const auto& c = *static_cast<const Context*>(data);
        const Range part = split(c.problem.groups * c.problem.rows, tid, count);
        rounding::descend(c.problem, c.codes, part.begin, part.end, c.scratch + tid * c.floats);
      },
      &context);
}

// This machine: its cores, their instructions, how fast they are.
void bind_machine(nb::module_& m) {
  m.def("set_num_threads", &set_num_threads, "threads"_a);
  m.def("num_threads", &num_threads, "fallback"_a = 0);
  m.def("thread_pool_name", [] {
    refresh_thread_pool();
    return thread_pool_name();
  });
  m.def(
      "dot_product_peak", [](const std::string& isa, int threads) { return dot_product_peak(parse_isa(isa), threads); },
      "isa"_a, "threads"_a, nb::call_guard<nb::gil_scoped_release>());
  m.def("read_bandwidth", &read_bandwidth, "bytes"_a, "threads"_a, nb::call_guard<nb::gil_scoped_release>());
  m.def("isa_names", &isa_names);
  m.def("isa_levels", &isa_levels_found);
  m.def("selected_isa", [] { return isa_name(selected_isa()); });
  m.def("cpu_description", &cpu_description);
}

// What the program format is made of.
void bind_tables(nb::module_& m) {
  m.def("dtypes", [] {
    nb::list rows;
    for (const DTypeRow& row : kDTypes) rows.append(nb::make_tuple(row.name, row.bits, row.numpy, row.torch));
    return rows;
  });
  m.def("expr_kinds", [] {
    nb::list names;
    for (const std::string_view name : kExprKinds) names.append(nb::str(name.data(), name.size()));
    return names;
  });
  m.def("step_schemas", &describe_schemas);
  m.def("op_names", [] {
    nb::list names;
    for (const OpRow& row : op_table()) names.append(row.op);
    return names;
  });
}

}  // namespace
}  // namespace qfx

NB_MODULE(_C, m) {
  using namespace qfx;
  nb::register_exception_translator(translate);
  nb::set_leak_warnings(false);  // what a traceback still holds when the interpreter ends is no leak
  bind_program(m);
  bind_builder(m);
  bind_executable(m);
  bind_session(m);
  bind_fake_quant(m);
  bind_serving(m);
  bind_machine(m);
  bind_tables(m);
  m.def("arena_layout", &arena_layout, "buffers"_a);
  m.def("round_to_moments", &round_to_moments, "target"_a, "moments"_a, "codes"_a, "lo"_a, "hi"_a, "threads"_a);
}
