#include "runtime/program.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <stdexcept>
#include <utility>

#include "runtime/errors.h"
#include "runtime/shapes.h"
#include "runtime/steps/step.h"

namespace qfx {
namespace {

constexpr size_t kMaxRank = 8;

bool in_range(int64_t id, size_t size) {
  return id >= 0 && id < static_cast<int64_t>(size);
}

// Which values hold data at a point of the step list.
class Definitions {
 public:
  explicit Definitions(const Program& program) : program_(program), defined_(program.values().size(), 0) {
    for (size_t v = 0; v < defined_.size(); ++v) defined_[v] = program.values()[v].constant >= 0;
  }

  bool has(int value) const { return in_range(value, defined_.size()) && defined_[value]; }

  void define(int value, const std::string& where) {
    if (!in_range(value, defined_.size())) {
      throw ProgramError(where, "value " + std::to_string(value) + " does not exist");
    }
    if (defined_[value]) throw ProgramError(where, "value '" + program_.values()[value].name + "' is defined twice");
    defined_[value] = 1;
  }

 private:
  const Program& program_;
  std::vector<char> defined_;
};

void check_operands(const Program& program, const Step& step, const Definitions& definitions) {
  for (const int v : step.inputs) {
    if (!definitions.has(v)) {
      throw ProgramError(step.name, "input value " + std::to_string(v) + " is not defined before this step");
    }
  }
  for (const auto& [name, ids] : step.exprs) {
    for (const int e : ids) {
      if (!in_range(e, program.exprs().size())) {
        throw ProgramError(step.name, "expression " + std::to_string(e) + " of '" + name + "' does not exist");
      }
      for (const int v : expr_values(program.exprs(), e)) {
        if (!definitions.has(v)) {
          throw ProgramError(step.name, "'" + name + "' reads a dimension of value " + std::to_string(v) +
                                            ", which is not defined before this step");
        }
      }
    }
  }
  for (const auto& [name, id] : step.constants) {
    if (!in_range(id, program.constants().size())) {
      throw ProgramError(step.name, "constant " + std::to_string(id) + " of '" + name + "' does not exist");
    }
  }
}

// What the caller's tensors can hold.
void check_border(const Value& value) {
  if (is_whole_bytes(value.dtype)) return;
  throw ProgramError(value.name, std::string("an input or output of a program can't be ") + dtype_name(value.dtype) +
                                     ", whose elements share bytes");
}

// Whether a value of `shape` may become one declared as `declared`, in which -1 is any extent.
bool may_become(const Dims& shape, const Dims& declared) {
  return std::ranges::equal(shape, declared, [](int64_t s, int64_t d) { return s == d || s == -1 || d == -1; });
}

void check_state(const Program& program, const State& state) {
  const auto count = [](const std::vector<int>& ids, int id) { return std::ranges::count(ids, id); };
  if (count(program.inputs(), state.input) != 1 || count(program.outputs(), state.output) != 1) {
    throw ProgramError("states", "a state is an input of the program, and becomes a value that is its output once");
  }
  const Value& x = program.values()[state.input];
  const Value& y = program.values()[state.output];
  if (x.dtype != y.dtype || !may_become(y.shape, x.shape)) {
    throw ProgramError(x.name, "what the state becomes, '" + y.name + "', differs in its type or shape");
  }
  if (state.initial == -1) return;
  if (!in_range(state.initial, program.constants().size())) {
    throw ProgramError(x.name,
                       "the state begins as constant " + std::to_string(state.initial) + ", which does not exist");
  }
  const Constant& c = program.constants()[state.initial];
  if (c.dtype != x.dtype || !may_become(c.shape, x.shape)) {
    throw ProgramError(x.name, "the constant that the state begins as has another type or shape");
  }
}

void check_states(const Program& program) {
  std::set<int> outputs;
  std::set<std::string> names;
  for (const State& state : program.states()) {
    check_state(program, state);
    const std::string& name = program.values()[state.input].name;
    if (!outputs.insert(state.output).second || !names.insert(name).second) {
      throw ProgramError(name, "the state shares its input, its output or its name with another");
    }
  }
}

SharedBytes copy_of(const void* data, size_t bytes) {
  const auto copy = std::make_shared<AlignedBuffer>(bytes);
  if (bytes > 0) std::memcpy(copy->data(), data, bytes);
  return {copy->data(), bytes, copy};
}

}  // namespace

DType parse_dtype(std::string_view name) {
  std::string names;
  for (const DTypeRow& row : kDTypes) {
    if (name == row.name) return row.dtype;
    names += (names.empty() ? "" : ", ") + std::string(row.name);
  }
  throw std::invalid_argument("unknown dtype '" + std::string(name) + "'; known are " + names);
}

Program::Program(ProgramParts parts) : parts_(std::move(parts)) {
  Definitions definitions(*this);
  for (const int v : inputs()) {
    definitions.define(v, in_range(v, values().size()) ? values()[v].name : "inputs");
    check_border(values()[v]);
  }
  for (const Step& step : steps()) {
    check_operands(*this, step, definitions);
    if (step.outputs.empty()) throw ProgramError(step.name, "a step has at least one output");
    for (const int v : step.outputs) definitions.define(v, step.name);
    const OpRow* row = find_op(step.op);
    if (row == nullptr) throw ProgramError(step.name, "there is no operation '" + step.op + "'");
    const StepView view(*this, step);
    check_schema(*row, view);
    row->check(view);
  }
  if (outputs().empty()) throw ProgramError("outputs", "a program has at least one output");
  for (const int v : outputs()) {
    if (!definitions.has(v)) throw ProgramError("outputs", "value " + std::to_string(v) + " is never defined");
    check_border(values()[v]);
  }
  check_states(*this);
}

Program::Program(const Program& whole, const std::vector<char>& keeps, bool copies) : parts_(whole.parts_) {
  for (size_t c = 0; c < keeps.size(); ++c) {
    SharedBytes& data = parts_.constants[c].data;
    if (!keeps[c]) {
      data = SharedBytes(nullptr, 0, nullptr);
    } else if (copies) {
      data = copy_of(data.data(), data.size());
    }
  }
}

int ProgramBuilder::value(std::string name, DType dtype, Dims shape) {
  if (shape.size() > kMaxRank) throw ProgramError(name, "a value has at most 8 dimensions");
  for (int64_t& d : shape) d = d < 0 ? -1 : d;
  parts_.values.push_back({std::move(name), dtype, std::move(shape), -1});
  return static_cast<int>(parts_.values.size()) - 1;
}

int ProgramBuilder::constant_value(std::string name, DType dtype, Dims shape, const void* data) {
  const int id = value(std::move(name), dtype, shape);
  hold(id, constant(dtype, std::move(shape), data));
  return id;
}

int ProgramBuilder::constant(DType dtype, Dims shape, const void* data) {
  const auto bytes = static_cast<size_t>(byte_size(element_count(shape), dtype));
  return constant(dtype, std::move(shape), copy_of(data, bytes));
}

int ProgramBuilder::constant(DType dtype, Dims shape, SharedBytes data) {
  parts_.constants.push_back({dtype, std::move(shape), std::move(data)});
  return static_cast<int>(parts_.constants.size()) - 1;
}

void ProgramBuilder::hold(int value, int constant) {
  Value& v = parts_.values.at(static_cast<size_t>(value));
  if (!in_range(constant, parts_.constants.size())) {
    throw ProgramError(v.name, "constant " + std::to_string(constant) + " does not exist");
  }
  const Constant& c = parts_.constants[static_cast<size_t>(constant)];
  if (c.dtype != v.dtype || c.shape != v.shape) {
    throw ProgramError(v.name, "its constant has another type or shape");
  }
  v.constant = constant;
}

int ProgramBuilder::add_expr(Expr expr) {
  parts_.exprs.push_back(expr);
  return static_cast<int>(parts_.exprs.size()) - 1;
}

int ProgramBuilder::expr_const(int64_t value) {
  return add_expr({ExprKind::constant, value, 0});
}

int ProgramBuilder::expr_dim(int64_t value, int64_t axis) {
  if (!in_range(value, parts_.values.size())) {
    throw ProgramError("expr", "value " + std::to_string(value) + " does not exist");
  }
  if (!in_range(axis, parts_.values[value].rank())) {
    throw ProgramError("expr", "value '" + parts_.values[value].name + "' has no axis " + std::to_string(axis));
  }
  return add_expr({ExprKind::dim, value, axis});
}

int ProgramBuilder::expr(ExprKind kind, int64_t a, int64_t b) {
  const int operands = expr_operands(kind);
  if (operands == 0) throw ProgramError("expr", "constants and dims are made by expr_const and expr_dim");
  if (!in_range(a, parts_.exprs.size()) || (operands == 2 && !in_range(b, parts_.exprs.size()))) {
    throw ProgramError("expr", "an operand expression does not exist");
  }
  return add_expr({kind, a, operands == 2 ? b : 0});
}

void ProgramBuilder::step(Step step) {
  parts_.steps.push_back(std::move(step));
}

void ProgramBuilder::state(State state) {
  parts_.states.push_back(state);
}

std::shared_ptr<const Program> ProgramBuilder::build(std::vector<int> inputs, std::vector<int> outputs) {
  parts_.inputs = std::move(inputs);
  parts_.outputs = std::move(outputs);
  return std::make_shared<const Program>(std::exchange(parts_, {}));
}

}  // namespace qfx
