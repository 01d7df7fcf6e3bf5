#pragma once
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/buffer.h"
#include "runtime/dtype.h"
#include "runtime/expr.h"
#include "runtime/shapes.h"

namespace qfx {

// Bytes that nobody changes, and what keeps them: memory of their own, or a file's. 64-byte aligned, with
// AlignedBuffer::kReadSlack readable bytes behind them.
class SharedBytes {
 public:
  SharedBytes(const std::byte* data, size_t size, std::shared_ptr<const void> owner)
      : data_(data), size_(size), owner_(std::move(owner)) {}

  const std::byte* data() const noexcept { return data_; }
  size_t size() const noexcept { return size_; }

 private:
  const std::byte* data_;
  size_t size_;
  std::shared_ptr<const void> owner_;
};

// Dense data in row-major order.
struct Constant {
  DType dtype = DType::u8;
  Dims shape;
  SharedBytes data;

  // Elements.
  int64_t size() const { return element_count(shape); }
  template <class T>
  std::span<const T> as() const noexcept {
    return {reinterpret_cast<const T*>(data.data()), data.size() / sizeof(T)};
  }
};

struct Value {
  std::string name;
  DType dtype = DType::u8;
  Dims shape;         // -1: known only when inputs are
  int constant = -1;  // index of the constant that it holds, or -1

  size_t rank() const noexcept { return shape.size(); }
};

struct Step {
  std::string op, name;
  std::vector<int> inputs, outputs;
  std::map<std::string, std::vector<int64_t>> ints;
  std::map<std::string, std::vector<double>> floats;
  std::map<std::string, std::vector<int>> exprs;
  std::map<std::string, int> constants;
  std::map<std::string, std::string> text;

  // The first result; the only one of most steps.
  int output() const { return outputs.at(0); }
};

// A value that lives from run to run, by ids of values: what a run gives as `output`, the next takes as `input`.
struct State {
  int input = 0, output = 0;
  int initial = -1;  // the constant that it begins as, or -1
};

struct ProgramParts {
  std::vector<Value> values;
  std::vector<Constant> constants;
  std::vector<Expr> exprs;
  std::vector<Step> steps;  // in execution order
  std::vector<int> inputs, outputs;
  std::vector<State> states;
};

// A quantized network: portable, immutable, and valid by construction.
class Program {
 public:
  // Validates everything that does not depend on input shapes. Throws ProgramError naming the step or value.
  explicit Program(ProgramParts parts);
  // `whole` with the contents of those of its constants only that `keeps` says, where they lie or copied; the others
  // are empty. For a program whose other constants nobody reads any more: it is not written as bytes, and what reads
  // them not loaded.
  Program(const Program& whole, const std::vector<char>& keeps, bool copies);
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  const std::vector<Value>& values() const noexcept { return parts_.values; }
  const std::vector<Constant>& constants() const noexcept { return parts_.constants; }
  const std::vector<Expr>& exprs() const noexcept { return parts_.exprs; }
  const std::vector<Step>& steps() const noexcept { return parts_.steps; }
  const std::vector<int>& inputs() const noexcept { return parts_.inputs; }
  const std::vector<int>& outputs() const noexcept { return parts_.outputs; }
  // Each an input and an output, with which no other state shares a value or a name.
  const std::vector<State>& states() const noexcept { return parts_.states; }

 private:
  ProgramParts parts_;
};

// Collects the parts; ids are indices in the order of the calls. Local mistakes throw ProgramError at once,
// the rest is found by build().
class ProgramBuilder {
 public:
  ProgramBuilder() = default;
  ProgramBuilder(const ProgramBuilder&) = delete;
  ProgramBuilder& operator=(const ProgramBuilder&) = delete;

  int value(std::string name, DType dtype, Dims shape);
  int constant_value(std::string name, DType dtype, Dims shape, const void* data);
  int constant(DType dtype, Dims shape, const void* data);  // which is copied
  int constant(DType dtype, Dims shape, SharedBytes data);
  // `value` is the constant of this id.
  void hold(int value, int constant);
  int expr_const(int64_t value);
  int expr_dim(int64_t value, int64_t axis);
  int expr(ExprKind kind, int64_t a, int64_t b);
  void step(Step step);
  void state(State state);
  // The builder is empty afterwards.
  std::shared_ptr<const Program> build(std::vector<int> inputs, std::vector<int> outputs);

 private:
  int add_expr(Expr expr);
  ProgramParts parts_;
};

}  // namespace qfx
