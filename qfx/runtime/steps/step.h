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
#include "gemm/quantized_rows.h"
#include "move/move.h"
#include "runtime/program.h"
#include "runtime/steps/schema.h"

namespace qfx {

// A step as its own operation reads it: typed access to attributes, by its schema; every failure names the step. Asking
// for an attribute that the schema does not have is a std::logic_error.
class StepView {
 public:
  // The operation is known.
  StepView(const Program& program, const Step& step);

  const Step& step() const noexcept { return step_; }
  size_t input_count() const noexcept { return step_.inputs.size(); }
  const Value& input(size_t i) const { return program_.values()[step_.inputs.at(i)]; }
  size_t output_count() const noexcept { return step_.outputs.size(); }
  const Value& output(size_t i = 0) const { return program_.values()[step_.outputs.at(i)]; }

  // Whether the step says it.
  bool has(const char* name) const;
  // Whether an operand is a constant without dims that is 0.
  bool is_zero(size_t input) const;

  // The attribute, or what the schema has where it is absent: nothing, 0, or its fallback.
  Dims ints(const char* name) const;
  int64_t integer(const char* name) const;
  std::vector<double> floats(const char* name) const;
  double number(const char* name) const;
  std::string text(const char* name) const;
  // Null where it is absent.
  const Constant* constant(const char* name) const;
  // Its data; empty where it is absent. Fails unless it has that dtype and `count` elements.
  template <class T>
  std::span<const T> data(const char* name, int64_t count) const;

  // Forms of attributes that many steps share.
  bool flag(const char* name) const { return integer(name) != 0; }
  float multiplier(const char* name) const { return static_cast<float>(number(name)); }
  int32_t zero_point(const char* name) const { return static_cast<int32_t>(integer(name)); }
  void clamp(int32_t* lo, int32_t* hi) const;
  std::vector<int> permutation(const char* name) const;  // of the dims of input 0
  int axis(const char* name) const;                      // of input 0
  // Where each of `rank` dims lies in memory; in order where the attribute is absent.
  std::vector<size_t> places(const char* name, size_t rank) const;

  void require(bool condition, const std::string& message) const {
    if (!condition) fail(message);
  }
  [[noreturn]] void fail(const std::string& message) const;

 private:
  const Attribute& attribute(const char* name, AttributeKind kind) const;

  const Program& program_;
  const Step& step_;
  const StepSchema& schema_;
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
  std::vector<Dims> strides;          // of the inputs, for rows that say strided_input; else empty
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
  // Whether a kernel copies what it needs of the step's constants, which may then be gone. Kernels that do say so.
  static constexpr bool copies_constants = false;

  virtual ~StepKernel() = default;
  // Of the first result.
  virtual Dims shape(const StepShapes& in) const = 0;
  // Of every result.
  virtual std::vector<Dims> shapes(const StepShapes& in) const {
    std::vector<Dims> one;
    one.push_back(shape(in));
    return one;
  }
  virtual Planned plan(const StepShapes& in, const Dims& y) const = 0;
  // How the rows of input 0 may come already quantized, if they may, and the work on such rows in its place.
  virtual std::optional<QuantizedRows> quantized_rows() const { return std::nullopt; }
  virtual std::unique_ptr<Work> plan_quantized(const StepShapes&, const Dims&) const { return nullptr; }
  // Whether it makes rows of the last dim from those of input 0: its Work is a RowMap, or a RowEnd where the result is
  // codes.
  virtual bool goes_by_rows() const noexcept { return false; }
  // Work that gives the rows of its result quantized, and nothing else; null where it can't.
  virtual std::unique_ptr<Work> plan_quantizing(const StepShapes&, const QuantizedRows&) const { return nullptr; }
  virtual size_t packed_bytes() const noexcept { return 0; }
  // Whether, for these shapes, an image of the result comes from more than that image, or from another place than the
  // images of the operands have; in a row that says per_image.
  virtual bool mixes_images(const StepShapes&) const { return false; }
  // Whether its numbers count the images, where there are as many; and whether it takes what such numbers, its second
  // operand, say of the first one.
  virtual bool counts_images() const noexcept { return false; }
  virtual bool picks_images() const noexcept { return false; }
  // Of operands that are places: how many there are for each, the fewest of all dims; -1: it has none. And the operand
  // whose places rise from 0, saying where something begins; -1: none.
  virtual int64_t places(const StepShapes&) const { return -1; }
  virtual int rising_operand() const noexcept { return -1; }
  // What it reads for its rows, in a row that says row_window.
  virtual RowWindow row_window() const noexcept { return {}; }
  // Whether it does nothing but put the channels of its inputs side by side.
  virtual bool joins_channels() const noexcept { return false; }
  // Whether it does nothing but take consecutive channels: the first of them, or -1.
  virtual int64_t first_channel(const StepShapes&) const { return -1; }
};

// An operation and the code that runs it.
struct OpRow : StepSchema {
  void (*check)(const StepView& step) = nullptr;
  std::unique_ptr<StepKernel> (*load)(const StepView& step, Isa isa) = nullptr;
  bool copies_constants = false;
};

// The code alone, by the operation's name in the schemas.
struct KernelRow {
  const char* op;
  void (*check)(const StepView& step);
  std::unique_ptr<StepKernel> (*load)(const StepView& step, Isa isa);
  bool copies_constants;  // as its StepKernel says
};

// A kernel class parses its attributes in its constructor's first argument; the same code validates and loads.
template <class Kernel>
KernelRow kernel_row(const char* op) {
  return {op, [](const StepView& step) { (void)typename Kernel::Params(step); },
          [](const StepView& step, Isa isa) -> std::unique_ptr<StepKernel> {
            return std::make_unique<Kernel>(typename Kernel::Params(step), isa);
          },
          Kernel::copies_constants};
}

// Every operation, in one table. The first call throws std::logic_error unless schemas and kernels are of the same
// operations.
const std::vector<OpRow>& op_table();
const OpRow* find_op(std::string_view op);

// All that the schema says of a step: counts and types of operands and results; of attributes names, kinds, counts,
// ranges and types. Throws ProgramError.
void check_schema(const StepSchema& schema, const StepView& step);

// The kernels of each family.
std::vector<KernelRow> quantize_rows();
std::vector<KernelRow> conv_rows();
std::vector<KernelRow> linear_rows();
std::vector<KernelRow> matmul_rows();
std::vector<KernelRow> attention_rows();
std::vector<KernelRow> rotation_rows();
std::vector<KernelRow> rotary_rows();
std::vector<KernelRow> elementwise_rows();
std::vector<KernelRow> pool_rows();
std::vector<KernelRow> move_rows();
std::vector<KernelRow> index_rows();
std::vector<KernelRow> float_op_rows();
std::vector<KernelRow> recurrent_rows();

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
  const Constant* c = constant(name);
  if (c == nullptr) return {};
  require(c->dtype == dtype_of<T>(),
          std::string("constant '") + name + "' is " + dtype_name(c->dtype) + ", not " + dtype_name(dtype_of<T>()));
  require(c->size() == count, std::string("constant '") + name + "' has " + std::to_string(c->size()) +
                                  " elements, not " + std::to_string(count));
  return c->as<T>();
}

}  // namespace qfx
