#include "runtime/serving/bindings.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "core/isa.h"
#include "runtime/buffer.h"
#include "runtime/loaded.h"
#include "runtime/program_bytes.h"
#include "runtime/python_values.h"
#include "runtime/serving/container.h"
#include "runtime/serving/cost.h"
#include "runtime/serving/model.h"
#include "runtime/serving/packing.h"
#include "runtime/serving/signature.h"
#include "runtime/serving/verify.h"

namespace qfx {
namespace {

using namespace nb::literals;

// (name, offset, size, is_optional) of each section.
nb::list describe_sections(nb::handle file, const std::string& where) {
  const std::shared_ptr<const Py_buffer> view = view_of(file);
  const std::span bytes(static_cast<const std::byte*>(view->buf), static_cast<size_t>(view->len));
  nb::list found;
  for (const Section& s : sections_of(bytes, where)) {
    found.append(nb::make_tuple(s.name, s.content.data() - bytes.data(), s.content.size(), s.is_optional));
  }
  return found;
}

// ---------------------------------------------------------------- signatures

using Shape = std::vector<NamedSize>;

Shape read_shape(nb::handle given) {
  Shape shape;
  for (const nb::handle size : given) {
    if (nb::isinstance<nb::int_>(size)) {
      shape.push_back({nb::cast<int64_t>(size), {}});
    } else {
      shape.push_back({-1, nb::cast<std::string>(size)});
    }
  }
  return shape;
}

nb::tuple to_tuple(const Shape& shape) {
  nb::list sizes;
  for (const NamedSize& s : shape) {
    if (s.size < 0) {
      sizes.append(s.name);
    } else {
      sizes.append(s.size);
    }
  }
  return nb::tuple(sizes);
}

// (name, dtype, shape, place) a value; sizes are numbers or names.
template <class Described>
std::vector<Described> read_values(const nb::list& given) {
  std::vector<Described> values;
  for (const nb::handle v : given) {
    values.push_back(
        {nb::cast<std::string>(v[0]), parse_dtype(nb::cast<std::string>(v[1])), read_shape(v[2]), nb::cast<int>(v[3])});
  }
  return values;
}

template <class Described>
nb::list describe_values(const std::vector<Described>& values) {
  nb::list found;
  for (const Described& v : values) found.append(nb::make_tuple(v.name, dtype_name(v.dtype), to_tuple(v.shape)));
  return found;
}

SizeOp parse_size_op(const std::string& name) {
  const auto* const found = std::ranges::find(kSizeOps, name);
  if (found == std::end(kSizeOps)) throw nb::value_error(("no operation of sizes: " + name).c_str());
  return static_cast<SizeOp>(found - std::begin(kSizeOps));
}

// (nodes, text) a condition; (operation, a, b, number) a node.
std::vector<Condition> read_conditions(const nb::list& given) {
  std::vector<Condition> conditions;
  for (const nb::handle c : given) {
    Condition& made = conditions.emplace_back();
    made.text = nb::cast<std::string>(c[1]);
    for (const nb::handle n : c[0]) {
      made.nodes.push_back({parse_size_op(nb::cast<std::string>(n[0])), nb::cast<int64_t>(n[1]),
                            nb::cast<int64_t>(n[2]), nb::cast<double>(n[3])});
    }
  }
  return conditions;
}

// The cost is that of a call with inputs of the shapes `examples`.
nb::bytes write_signature(const nb::list& inputs, const nb::list& outputs, const nb::list& conditions,
                          std::string structure, std::string metadata, const std::vector<Dims>& examples,
                          const std::shared_ptr<Program>& program) {
  Signature signature{read_values<ModelInput>(inputs),
                      read_values<ModelOutput>(outputs),
                      read_conditions(conditions),
                      std::move(structure),
                      std::move(metadata),
                      {}};
  for (size_t i = 0; i < signature.inputs.size(); ++i) signature.inputs[i].example = examples.at(i);
  const std::vector<InputLayout> example = example_of(signature);
  signature.cost = cost_of(std::make_shared<const LoadedProgram>(program, Isa::scalar), example);
  const std::string bytes = to_bytes(signature);
  return nb::bytes(bytes.data(), bytes.size());
}

// ---------------------------------------------------------------- models

Model::Limits limits_of(std::optional<uint64_t> memory, std::optional<uint64_t> products) {
  return {memory, products};
}

Isa isa_of(const std::string& name) {
  return name.empty() ? selected_isa() : parse_isa(name);
}

std::shared_ptr<Model> open_path(const std::string& path, const std::string& isa, std::optional<uint64_t> memory,
                                 std::optional<uint64_t> products) {
  const nb::gil_scoped_release release;
  return std::make_shared<Model>(std::make_shared<const MappedFile>(path), isa_of(isa), limits_of(memory, products));
}

// Of an object's bytes; of such as somebody may still write to, or that do not begin at a cache line, a copy.
std::shared_ptr<Model> open_bytes(nb::handle given, const std::string& where, const std::string& isa,
                                  std::optional<uint64_t> memory, std::optional<uint64_t> products) {
  const std::shared_ptr<const Py_buffer> view = view_of(given);
  const auto size = static_cast<size_t>(view->len);
  std::span<const std::byte> bytes{static_cast<const std::byte*>(view->buf), size};
  std::shared_ptr<const void> owner = view;
  if (view->readonly == 0 || reinterpret_cast<uintptr_t>(view->buf) % AlignedBuffer::kAlignment != 0) {
    const auto copy = std::make_shared<AlignedBuffer>(size);
    std::memcpy(copy->data(), view->buf, size);
    bytes = {copy->data(), size};
    owner = copy;
  }
  const nb::gil_scoped_release release;
  return std::make_shared<Model>(bytes, std::move(owner), where, isa_of(isa), limits_of(memory, products));
}

nb::tuple output_shapes(const Model& model, const Model::Call& call) {
  nb::list shapes;
  for (size_t i = 0; i < model.signature().outputs.size(); ++i)
    shapes.append(qfx::to_tuple(model.output_shape(call, i)));
  return nb::tuple(shapes);
}

void run(Model& model, const Model::Call& call, const nb::tuple& in, const nb::tuple& out, int threads) {
  const auto inputs = read_pointers<const void*>(in, model.signature().inputs.size());
  const auto outputs = read_pointers<void*>(out, model.signature().outputs.size());
  const nb::gil_scoped_release release;
  model.run(call, inputs, outputs, threads);
}

// A level of this architecture, which this CPU need not have.
Isa level_of(const std::string& name) {
  const auto levels = isa_levels();
  const auto found = std::ranges::find(levels, name, isa_name);
  return found == levels.end() ? parse_isa(name) : *found;
}

// What is packed for a program, of its bytes.
nb::bytes pack(nb::handle content, const std::string& isa) {
  const std::shared_ptr<const Py_buffer> view = view_of(content);
  const std::span bytes{static_cast<const std::byte*>(view->buf), static_cast<size_t>(view->len)};
  const std::string packed = pack_for(program_of(bytes, view), bytes, level_of(isa));
  return nb::bytes(packed.data(), packed.size());
}

}  // namespace

void bind_serving(nb::module_& m) {
  m.def("pack", &pack, "program"_a, "isa"_a);
  m.def("size_operations", [] { return std::vector<std::string>(std::begin(kSizeOps), std::end(kSizeOps)); });
  m.def("sections", &describe_sections, "file"_a, "where"_a);
  m.def("write_signature", &write_signature, "inputs"_a, "outputs"_a, "conditions"_a, "structure"_a, "metadata"_a,
        "examples"_a, "program"_a);
  nb::class_<Model::Call>(m, "ModelCall", "Calls of a model with inputs laid out alike.");
  nb::class_<Model>(m, "Model", "A model of a .qfx file.")
      .def_static("open_path", &open_path, "path"_a, "isa"_a, "max_memory"_a.none(), "max_products"_a.none())
      .def_static("open_bytes", &open_bytes, "file"_a, "where"_a, "isa"_a, "max_memory"_a.none(),
                  "max_products"_a.none())
      .def_prop_ro("isa", [](const Model& model) { return isa_name(model.isa()); })
      .def_prop_ro("is_packed", &Model::is_packed)
      .def_prop_ro("inputs", [](const Model& model) { return describe_values(model.signature().inputs); })
      .def_prop_ro("outputs", [](const Model& model) { return describe_values(model.signature().outputs); })
      .def_prop_ro("structure", [](const Model& model) { return model.signature().structure; })
      .def_prop_ro("metadata", [](const Model& model) { return model.signature().metadata; })
      .def(
          "prepare",
          [](Model& model, const nb::tuple& layouts) {
            std::vector<InputLayout> inputs = read_layouts(layouts);
            const nb::gil_scoped_release release;
            return std::const_pointer_cast<Model::Call>(model.prepare(std::move(inputs)));
          },
          "layouts"_a)
      .def("output_shapes", &output_shapes, "call"_a)
      .def_prop_ro(
          "cost", [](const Model& m) { return nb::make_tuple(m.signature().cost.memory, m.signature().cost.products); })
      .def(
          "verify",
          [](Model& model, int threads) {
            const nb::gil_scoped_release release;
            return verify(model, threads).hash;
          },
          "threads"_a)
      .def("run", &run, "call"_a, "inputs"_a, "outputs"_a, "threads"_a);
}

}  // namespace qfx
