#include <algorithm>
#include <cmath>

#include "runtime/errors.h"
#include "runtime/shapes.h"
#include "runtime/steps/step.h"

namespace qfx {
namespace {

// Attributes are small numbers; anything larger is a mistake, and this keeps shape arithmetic from overflowing.
constexpr int64_t kMaxInteger = int64_t{1} << 31;

std::vector<OpRow> all_rows() {
  std::vector<OpRow> rows;
  for (auto* family :
       {quantize_rows, conv_rows, matmul_rows, elementwise_rows, pool_rows, move_rows, glue_rows, recurrent_rows}) {
    for (OpRow& row : family()) rows.push_back(std::move(row));
  }
  return rows;
}

const char* kind_name(AttributeKind kind) {
  constexpr const char* names[] = {"ints", "floats", "exprs", "constants", "text"};
  return names[static_cast<int>(kind)];
}

int64_t wanted_count(const Attribute& attribute, const StepView& step) {
  const auto rank = static_cast<int64_t>(step.input(0).rank());
  if (attribute.count == Attribute::kSpatial) return std::max<int64_t>(rank - 2, 0);
  if (attribute.count == Attribute::kRank) return rank;
  return attribute.count;
}

template <class Map, class Size>
void check_attributes(const OpRow& row, const StepView& step, const Map& given, AttributeKind kind, Size size) {
  for (const auto& [name, value] : given) {
    const auto known =
        std::find_if(row.attributes.begin(), row.attributes.end(),
                     [&, n = std::string_view(name)](const Attribute& a) { return a.kind == kind && n == a.name; });
    step.require(known != row.attributes.end(),
                 std::string("'") + row.op + "' has no " + kind_name(kind) + " attribute '" + name + "'");
    const int64_t wanted = wanted_count(*known, step);
    step.require(known->count == Attribute::kAny || static_cast<int64_t>(size(value)) == wanted,
                 "'" + name + "' has " + std::to_string(size(value)) + " entries, not " + std::to_string(wanted));
  }
  for (const Attribute& a : row.attributes) {
    step.require(a.kind != kind || !a.required || given.count(a.name) > 0,
                 std::string("'") + row.op + "' needs " + kind_name(kind) + " attribute '" + a.name + "'");
  }
}

void check_types(const OpRow& row, const StepView& step) {
  const bool recurrent = row.types == Types::recurrent;
  const bool from_f32 = row.types == Types::f32_u8 || row.types == Types::f32_f32 || recurrent;
  for (size_t i = 0; i < step.input_count(); ++i) {
    const bool is_sizes = recurrent && i + 1 == step.input_count();
    const DType in = is_sizes                   ? DType::s64
                     : row.types == Types::same ? step.input(0).dtype
                                                : (from_f32 ? DType::f32 : DType::u8);
    step.require(step.input(i).dtype == in, "input " + std::to_string(i) + " ('" + step.input(i).name + "') is " +
                                                dtype_name(step.input(i).dtype) + ", not " + dtype_name(in));
  }
  if (row.types == Types::u8_any) return;
  const bool to_f32 = row.types == Types::u8_f32 || row.types == Types::f32_f32 || recurrent;
  const DType out = row.types == Types::same ? step.input(0).dtype : (to_f32 ? DType::f32 : DType::u8);
  for (size_t i = 0; i < step.output_count(); ++i) {
    const Value& y = step.output(i);
    step.require(y.dtype == out, "output '" + y.name + "' is " + dtype_name(y.dtype) + ", not " + dtype_name(out));
  }
}

}  // namespace

std::vector<OpRow> per_image(std::vector<OpRow> rows) {
  for (OpRow& row : rows) row.per_image = true;
  return rows;
}

std::vector<OpRow> with_row_windows(std::vector<OpRow> rows, std::initializer_list<std::string_view> names) {
  for (OpRow& row : rows) row.row_window = std::find(names.begin(), names.end(), row.op) != names.end();
  return rows;
}

const std::vector<OpRow>& op_table() {
  static const std::vector<OpRow> rows = all_rows();
  return rows;
}

const OpRow* find_op(std::string_view op) {
  for (const OpRow& row : op_table()) {
    if (op == row.op) return &row;
  }
  return nullptr;
}

void check_schema(const OpRow& row, const StepView& step) {
  const auto n = static_cast<int>(step.input_count());
  step.require(n >= row.min_inputs && n <= row.max_inputs,
               std::string("'") + row.op + "' does not take " + std::to_string(n) + " inputs");
  step.require(static_cast<int>(step.output_count()) == row.outputs,
               std::string("'") + row.op + "' does not give " + std::to_string(step.output_count()) + " outputs");
  check_types(row, step);
  const auto count = [](const auto& entries) { return entries.size(); };
  const auto one = [](const auto&) { return size_t{1}; };
  check_attributes(row, step, step.step().ints, AttributeKind::integer, count);
  check_attributes(row, step, step.step().floats, AttributeKind::number, count);
  check_attributes(row, step, step.step().exprs, AttributeKind::expr, count);
  check_attributes(row, step, step.step().constants, AttributeKind::constant, one);
  check_attributes(row, step, step.step().text, AttributeKind::text, one);
  for (const auto& [name, values] : step.step().ints) {
    for (const int64_t v : values) {
      step.require(v > -kMaxInteger && v < kMaxInteger, "'" + name + "' has an entry out of range");
    }
  }
}

Dims StepView::ints(const char* name, const Dims& fallback) const {
  const auto it = step_.ints.find(name);
  return it == step_.ints.end() ? fallback : it->second;
}

int64_t StepView::integer(const char* name, int64_t fallback) const {
  const auto it = step_.ints.find(name);
  return it == step_.ints.end() ? fallback : it->second.at(0);
}

std::vector<double> StepView::floats(const char* name, const std::vector<double>& fallback) const {
  const auto it = step_.floats.find(name);
  return it == step_.floats.end() ? fallback : it->second;
}

double StepView::number(const char* name, double fallback) const {
  const auto it = step_.floats.find(name);
  return it == step_.floats.end() ? fallback : it->second.at(0);
}

float StepView::multiplier(const char* name, float fallback) const {
  const auto value = static_cast<float>(number(name, fallback));
  require(std::isfinite(value), std::string("'") + name + "' is not a finite float32");
  return value;
}

std::string StepView::text(const char* name) const {
  const auto it = step_.text.find(name);
  return it == step_.text.end() ? std::string() : it->second;
}

const Constant* StepView::constant(const char* name, std::initializer_list<DType> dtypes) const {
  const auto it = step_.constants.find(name);
  if (it == step_.constants.end()) return nullptr;
  const Constant& c = program_.constants()[it->second];
  std::string wanted;
  for (const DType dtype : dtypes) wanted += (wanted.empty() ? "" : " or ") + std::string(dtype_name(dtype));
  require(std::find(dtypes.begin(), dtypes.end(), c.dtype) != dtypes.end(),
          std::string("constant '") + name + "' is " + dtype_name(c.dtype) + ", not " + wanted);
  return &c;
}

int32_t StepView::zero_point(const char* name) const {
  const int64_t z = integer(name, 0);
  require(z >= 0 && z <= 255, std::string("'") + name + "' is not a u8 code: " + std::to_string(z));
  return static_cast<int32_t>(z);
}

void StepView::clamp(int32_t* lo, int32_t* hi) const {
  const Dims bounds = ints("clamp", {0, 255});
  require(bounds.size() == 2 && 0 <= bounds[0] && bounds[0] <= bounds[1] && bounds[1] <= 255,
          "'clamp' is not 0 <= lo <= hi <= 255: " + to_string(bounds));
  *lo = static_cast<int32_t>(bounds[0]);
  *hi = static_cast<int32_t>(bounds[1]);
}

std::vector<int> StepView::permutation(const char* name) const {
  const Dims dims = ints(name);
  std::vector<char> seen(dims.size(), 0);
  std::vector<int> perm;
  for (const int64_t d : dims) {
    require(d >= 0 && d < static_cast<int64_t>(dims.size()) && !seen[d],
            std::string("'") + name + "' is not a permutation: " + to_string(dims));
    seen[d] = 1;
    perm.push_back(static_cast<int>(d));
  }
  return perm;
}

int StepView::axis(const char* name) const {
  const int64_t a = integer(name);
  require(a >= 0 && a < static_cast<int64_t>(input(0).rank()),
          std::string("'") + name + "' is not an axis of '" + input(0).name + "': " + std::to_string(a));
  return static_cast<int>(a);
}

void StepView::fail(const std::string& message) const {
  throw ProgramError(step_.name, message);
}

}  // namespace qfx
