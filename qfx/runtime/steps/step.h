#pragma once
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/isa.h"
#include "core/work.h"
#include "move/move.h"
#include "runtime/program.h"

namespace qfx {

// A step as its own operation reads it: typed access to attributes; every failure names the step.
class StepView {
 public:
  StepView(const Program& program, const Step& step) : program_(program), step_(step) {}

  const Step& step() const noexcept { return step_; }
  size_t input_count() const noexcept { return step_.inputs.size(); }
  const Value& input(size_t i) const { return program_.values()[step_.inputs.at(i)]; }
  size_t output_count() const noexcept { return step_.outputs.size(); }
  const Value& output(size_t i = 0) const { return program_.values()[step_.outputs.at(i)]; }

  bool has_ints(const char* name) const { return step_.ints.count(name) > 0; }
  bool has_floats(const char* name) const { return step_.floats.count(name) > 0; }
  bool has_exprs(const char* name) const { return step_.exprs.count(name) > 0; }

  // The attribute, or `fallback` where it is absent.
  Dims ints(const char* name, const Dims& fallback = {}) const;
  int64_t integer(const char* name, int64_t fallback = 0) const;
  std::vector<double> floats(const char* name, const std::vector<double>& fallback = {}) const;
  double number(const char* name, double fallback = 0.0) const;
  // A number that fits float32 and is finite.
  float multiplier(const char* name, float fallback = 0.0f) const;
  std::string text(const char* name) const;

  // The constant, or null where it is absent. Fails unless it has one of those dtypes.
  const Constant* constant(const char* name, std::initializer_list<DType> dtypes) const;
  const Constant* constant(const char* name, DType dtype) const { return constant(name, {dtype}); }
  // Its data; empty where it is absent. Fails unless it has that dtype and `count` elements.
  template <class T>
  std::span<const T> data(const char* name, int64_t count) const;

  // Checked forms of attributes that many steps share.
  int32_t zero_point(const char* name) const;            // a u8 code
  void clamp(int32_t* lo, int32_t* hi) const;            // "clamp", default 0..255
  std::vector<int> permutation(const char* name) const;  // of the dims of input 0
  int axis(const char* name) const;                      // of input 0

  void require(bool condition, const std::string& message) const {
    if (!condition) fail(message);
  }
  [[noreturn]] void fail(const std::string& message) const;

 private:
  const Program& program_;
  const Step& step_;
};

// Rows above and below the first dim of an image, that are not there.
struct RowPadding {
  int64_t lo = 0, hi = 0;
};

// The rows of input 0 that rows of the result are computed from: row i from rows [i * stride - padding.lo, extent
// more). Of the other inputs, those of the same numbers.
struct RowWindow {
  int64_t extent = 1, stride = 1;
  RowPadding padding;
  int axis = 1;  // of input 0's rows; the result's are dim 1
};

// The concrete shapes that one plan is made for.
struct StepShapes {
  std::vector<Dims> inputs;
  std::vector<Dims> strides;          // of the inputs; dense unless the row says strided_input
  std::map<std::string, Dims> exprs;  // evaluated
  // Elements between pixels (rows of the last dim) of input 0 and of the output, for rows that say pixel_strides; 0:
  // they are dense.
  int64_t x_pixel_stride = 0, y_pixel_stride = 0;
  std::vector<char> placed;  // the inputs that lie in the output already, for joins_channels; empty: none
  // Of dim 1, for rows that say row_window, where it is not the step's own.
  std::optional<RowPadding> row_padding;
};

struct Planned {
  std::unique_ptr<Work> work;     // null: the output is a view of input 0 ...
  int64_t view_offset = 0;        // ... that starts at this byte
  std::unique_ptr<Work> prepare;  // if set, input 0 passes through it first, into a buffer of its own size
  int64_t room = 0;               // bytes that the work's threads share: a buffer behind the results in `out`
};

// A step of a loaded program: kernels chosen, weights packed. Immutable and safe to plan from many threads.
// shape and plan throw std::invalid_argument for shapes that the step cannot take.
class StepKernel {
 public:
  virtual ~StepKernel() = default;
  // Of the first result.
  virtual Dims shape(const StepShapes& in) const = 0;
  // Of every result.
  virtual std::vector<Dims> shapes(const StepShapes& in) const { return {shape(in)}; }
  virtual Planned plan(const StepShapes& in, const Dims& y) const = 0;
  virtual size_t packed_bytes() const noexcept { return 0; }
  // Whether its attributes move images of a batch, in a row that says per_image.
  virtual bool moves_images() const noexcept { return false; }
  // What it reads for its rows, in a row that says row_window.
  virtual RowWindow row_window() const noexcept { return {}; }
  // Whether it does nothing but put the channels of its inputs side by side.
  virtual bool joins_channels() const noexcept { return false; }
  // Whether it does nothing but take consecutive channels: the first of them, or -1.
  virtual int64_t first_channel(const StepShapes&) const { return -1; }
};

enum class AttributeKind { integer, number, expr, constant, text };

struct Attribute {
  static constexpr int kAny = -1;      // any number of entries
  static constexpr int kSpatial = -2;  // one entry for each dim of input 0 but the first and the last
  static constexpr int kRank = -3;     // one entry for each dim of input 0

  const char* name;
  AttributeKind kind;
  int count = 1;
  bool required = true;
};

// Operand and result types of an operation.
enum class Types { u8_u8, u8_f32, f32_u8, f32_f32, u8_any, same, recurrent };

// One operation of the program format. What says one of the flags has one result.
struct OpRow {
  const char* op;
  int min_inputs, max_inputs;
  Types types;
  std::vector<Attribute> attributes;
  void (*check)(const StepView& step);
  std::unique_ptr<StepKernel> (*load)(const StepView& step, Isa isa);
  bool strided_input = false;  // reads program inputs with any strides
  // Where dim 0 of the result is the batch, like that of the operands, it computes every image from that image alone.
  bool per_image = false;
  // For rank 4 and a result as high as the windows make it of input 0, the rows of an image (dim 1) can be computed a
  // few at a time; StepKernel::row_window says from what.
  bool row_window = false;
  bool pixel_strides = false;  // reads input 0 and writes its result with any distance between pixels
  int outputs = 1;
};

// A kernel class parses its attributes in its constructor's first argument; the same code validates and loads.
template <class Kernel>
OpRow op_row(const char* op, int min_inputs, int max_inputs, Types types, std::vector<Attribute> attributes,
             bool strided_input = false) {
  return {op,
          min_inputs,
          max_inputs,
          types,
          std::move(attributes),
          [](const StepView& step) { (void)typename Kernel::Params(step); },
          [](const StepView& step, Isa isa) -> std::unique_ptr<StepKernel> {
            return std::make_unique<Kernel>(typename Kernel::Params(step), isa);
          },
          strided_input};
}

// `rows`, all of them per image.
std::vector<OpRow> per_image(std::vector<OpRow> rows);
// `rows`, those of the given names with a row window.
std::vector<OpRow> with_row_windows(std::vector<OpRow> rows, std::initializer_list<std::string_view> names);

// Every operation, in one table.
const std::vector<OpRow>& op_table();
const OpRow* find_op(std::string_view op);

// Operand count, operand types, attribute names, kinds and counts. Throws ProgramError.
void check_schema(const OpRow& row, const StepView& step);

// The rows of each family.
std::vector<OpRow> quantize_rows();
std::vector<OpRow> conv_rows();
std::vector<OpRow> matmul_rows();
std::vector<OpRow> elementwise_rows();
std::vector<OpRow> pool_rows();
std::vector<OpRow> move_rows();
std::vector<OpRow> glue_rows();
std::vector<OpRow> recurrent_rows();

template <class T>
constexpr DType dtype_of();
template <>
constexpr DType dtype_of<uint8_t>() {
  return DType::u8;
}
template <>
constexpr DType dtype_of<int8_t>() {
  return DType::s8;
}
template <>
constexpr DType dtype_of<int32_t>() {
  return DType::s32;
}
template <>
constexpr DType dtype_of<float>() {
  return DType::f32;
}

template <class T>
std::span<const T> StepView::data(const char* name, int64_t count) const {
  const Constant* c = constant(name, dtype_of<T>());
  if (c == nullptr) return {};
  require(c->size() == count, std::string("constant '") + name + "' has " + std::to_string(c->size()) +
                                  " elements, not " + std::to_string(count));
  return c->as<T>();
}

}  // namespace qfx
