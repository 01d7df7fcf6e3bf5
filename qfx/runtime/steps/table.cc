#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <unordered_map>

#include "runtime/errors.h"
#include "runtime/shapes.h"
#include "runtime/steps/step.h"

namespace qfx {
namespace {

std::vector<OpRow> all_rows() {
  std::unordered_map<std::string_view, KernelRow> kernels;
  for (auto* family : {quantize_rows, conv_rows, linear_rows, matmul_rows, attention_rows, rotation_rows, rotary_rows,
                       elementwise_rows, pool_rows, move_rows, index_rows, float_op_rows, recurrent_rows}) {
    for (const KernelRow& row : family()) {
      if (!kernels.emplace(row.op, row).second) throw std::logic_error(std::string("two kernels of ") + row.op);
    }
  }
  std::vector<OpRow> rows;
  for (const StepSchema& schema : step_schemas()) {
    const auto kernel = kernels.find(schema.op);
    if (kernel == kernels.end()) throw std::logic_error(std::string("no kernel of ") + schema.op);
    rows.push_back({schema, kernel->second.check, kernel->second.load, kernel->second.copies_constants});
    kernels.erase(kernel);
  }
  if (!kernels.empty()) throw std::logic_error("no schema of " + std::string(kernels.begin()->first));
  return rows;
}

std::string quoted(const char* name) {
  return std::string("'") + name + "'";
}

const char* kind_name(AttributeKind kind) {
  constexpr const char* names[] = {"ints", "floats", "exprs", "constants", "text"};
  return names[static_cast<int>(kind)];
}

// ---------------------------------------------------------------- operands and results

void check_operands(const StepSchema& schema, const StepView& step) {
  using Presence = Operand::Presence;
  const size_t n = step.input_count();
  const bool any = schema.operands.back().presence == Presence::any;
  size_t least = 0;
  for (const Operand& o : schema.operands) least += o.presence == Presence::optional ? 0 : 1;
  step.require(n >= least && (any || n <= schema.operands.size()),
               quoted(schema.op) + " does not take " + std::to_string(n) + " inputs");
  for (size_t i = 0; i < n; ++i) {
    const Value& x = step.input(i);
    DTypes types = schema.operands[std::min(i, schema.operands.size() - 1)].types;
    if (any && i > 0) types = types_of({step.input(0).dtype});
    step.require(holds(types, x.dtype), "input " + std::to_string(i) + " ('" + x.name + "') is " + dtype_name(x.dtype) +
                                            ", not " + to_string(types));
  }
}

void check_results(const StepSchema& schema, const StepView& step) {
  step.require(step.output_count() == schema.results.size(),
               quoted(schema.op) + " does not give " + std::to_string(step.output_count()) + " outputs");
  for (size_t i = 0; i < schema.results.size(); ++i) {
    const Value& y = step.output(i);
    const DTypes types =
        schema.results[i].types == kSameType ? types_of({step.input(0).dtype}) : schema.results[i].types;
    step.require(holds(types, y.dtype),
                 "output '" + y.name + "' is " + dtype_name(y.dtype) + ", not " + to_string(types));
  }
}

// ---------------------------------------------------------------- attributes

int64_t wanted_count(const Attribute& attribute, const StepView& step) {
  const auto rank = static_cast<int64_t>(step.input(0).rank());
  if (attribute.count == Attribute::kSpatial) return std::max<int64_t>(rank - 2, 0);
  if (attribute.count == Attribute::kRank) return rank;
  return attribute.count;
}

template <class T>
void check_entries(const Attribute& a, const StepView& step, const std::vector<T>& entries) {
  const int64_t wanted = wanted_count(a, step);
  step.require(a.count == Attribute::kAny || static_cast<int64_t>(entries.size()) == wanted,
               quoted(a.name) + " has " + std::to_string(entries.size()) + " entries, not " + std::to_string(wanted));
  if (a.kind == AttributeKind::expr) return;
  for (const T entry : entries) {
    const auto number = static_cast<double>(entry);
    step.require((number >= a.low && number <= a.high) || (a.may_be_nan && std::isnan(number)),
                 quoted(a.name) + " has an entry out of range: " + std::to_string(entry));
  }
}

// A constant's own data is held against the others by the kernel.
void check_entries(const Attribute&, const StepView&, const std::string&) {}
void check_entries(const Attribute& a, const StepView& step, int) {
  const Constant& c = *step.constant(a.name);
  step.require(holds(a.types, c.dtype),
               "constant " + quoted(a.name) + " is " + dtype_name(c.dtype) + ", not " + to_string(a.types));
}

template <class Map>
void check_attributes(const StepSchema& schema, const StepView& step, const Map& given, AttributeKind kind) {
  for (const auto& [name, value] : given) {
    const Attribute* a = schema.find(name);
    step.require(a != nullptr && a->kind == kind,
                 quoted(schema.op) + " has no " + kind_name(kind) + " attribute '" + name + "'");
    check_entries(*a, step, value);
  }
  for (const Attribute& a : schema.attributes) {
    step.require(a.kind != kind || !a.required || given.count(a.name) > 0,
                 quoted(schema.op) + " needs " + kind_name(kind) + " attribute " + quoted(a.name));
  }
}

// `given` or `fallback` entries; one stands for all that the step has room for.
template <class T>
std::vector<T> entries_or_fallback(const std::map<std::string, std::vector<T>>& given, const Attribute& a,
                                   const StepView& step) {
  const auto it = given.find(a.name);
  if (it != given.end()) return it->second;
  std::vector<T> entries;
  entries.reserve(a.fallback.size());
  for (const double v : a.fallback) entries.push_back(static_cast<T>(v));
  if (entries.size() == 1) entries.resize(static_cast<size_t>(std::max<int64_t>(wanted_count(a, step), 1)), entries[0]);
  return entries;
}

}  // namespace

const std::vector<OpRow>& op_table() {
  static const std::vector<OpRow> rows = all_rows();
  return rows;
}

const OpRow* find_op(std::string_view op) {
  static const auto places = [] {
    std::unordered_map<std::string_view, const OpRow*> made;
    for (const OpRow& row : op_table()) made.emplace(row.op, &row);
    return made;
  }();
  const auto found = places.find(op);
  return found == places.end() ? nullptr : found->second;
}

void check_schema(const StepSchema& schema, const StepView& step) {
  check_operands(schema, step);
  check_results(schema, step);
  const Step& s = step.step();
  check_attributes(schema, step, s.ints, AttributeKind::integer);
  check_attributes(schema, step, s.floats, AttributeKind::number);
  check_attributes(schema, step, s.exprs, AttributeKind::expr);
  check_attributes(schema, step, s.constants, AttributeKind::constant);
  check_attributes(schema, step, s.text, AttributeKind::text);
}

// ---------------------------------------------------------------- StepView

StepView::StepView(const Program& program, const Step& step)
    : program_(program), step_(step), schema_(*find_op(step.op)) {}

const Attribute& StepView::attribute(const char* name, AttributeKind kind) const {
  const Attribute* a = schema_.find(name);
  if (a == nullptr || a->kind != kind) {
    throw std::logic_error(quoted(schema_.op) + " has no " + kind_name(kind) + " attribute " + quoted(name));
  }
  return *a;
}

bool StepView::is_zero(size_t i) const {
  const int constant = input(i).constant;
  if (constant < 0 || input(i).rank() != 0) return false;
  return std::ranges::all_of(program_.constants()[constant].as<std::byte>(),
                             [](std::byte b) { return b == std::byte{}; });
}

bool StepView::has(const char* name) const {
  if (schema_.find(name) == nullptr) throw std::logic_error(quoted(schema_.op) + " has no attribute " + quoted(name));
  return step_.ints.count(name) + step_.floats.count(name) + step_.exprs.count(name) + step_.constants.count(name) +
             step_.text.count(name) >
         0;
}

Dims StepView::ints(const char* name) const {
  return entries_or_fallback(step_.ints, attribute(name, AttributeKind::integer), *this);
}

int64_t StepView::integer(const char* name) const {
  const Dims entries = ints(name);
  return entries.empty() ? 0 : entries[0];
}

std::vector<double> StepView::floats(const char* name) const {
  return entries_or_fallback(step_.floats, attribute(name, AttributeKind::number), *this);
}

double StepView::number(const char* name) const {
  const std::vector<double> entries = floats(name);
  return entries.empty() ? 0.0 : entries[0];
}

std::string StepView::text(const char* name) const {
  attribute(name, AttributeKind::text);
  const auto it = step_.text.find(name);
  return it == step_.text.end() ? std::string() : it->second;
}

const Constant* StepView::constant(const char* name) const {
  attribute(name, AttributeKind::constant);
  const auto it = step_.constants.find(name);
  return it == step_.constants.end() ? nullptr : &program_.constants()[it->second];
}

void StepView::clamp(int32_t* lo, int32_t* hi) const {
  const Dims bounds = ints("clamp");
  require(bounds[0] <= bounds[1], "'clamp' is not lo <= hi: " + to_string(bounds));
  *lo = static_cast<int32_t>(bounds[0]);
  *hi = static_cast<int32_t>(bounds[1]);
}

std::vector<int> StepView::permutation(const char* name) const {
  const Dims dims = ints(name);
  std::vector<char> seen(dims.size(), 0);
  std::vector<int> perm;
  for (const int64_t d : dims) {
    require(d >= 0 && d < static_cast<int64_t>(dims.size()) && !seen[d],
            quoted(name) + " is not a permutation: " + to_string(dims));
    seen[d] = 1;
    perm.push_back(static_cast<int>(d));
  }
  return perm;
}

std::vector<size_t> StepView::places(const char* name, size_t rank) const {
  Dims given = ints(name);
  if (given.empty())
    for (size_t i = 0; i < rank; ++i) given.push_back(static_cast<int64_t>(i));
  std::vector<size_t> at;
  for (const int64_t d : given) {
    require(d >= 0 && d < static_cast<int64_t>(rank) && std::count(given.begin(), given.end(), d) == 1,
            quoted(name) + " is not a permutation");
    at.push_back(static_cast<size_t>(d));
  }
  return at;
}

int StepView::axis(const char* name) const {
  const int64_t a = integer(name);
  require(a < static_cast<int64_t>(input(0).rank()),
          quoted(name) + " is not an axis of '" + input(0).name + "': " + std::to_string(a));
  return static_cast<int>(a);
}

void StepView::fail(const std::string& message) const {
  throw ProgramError(step_.name, message);
}

}  // namespace qfx
