#pragma once
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/buffer.h"
#include "runtime/dtype.h"
#include "runtime/expr.h"

namespace qfx {

// Dense data in row-major order, 64-byte aligned.
struct Constant {
  DType dtype = DType::u8;
  Dims shape;
  AlignedBuffer data;

  int64_t size() const noexcept { return static_cast<int64_t>(data.size()) / element_size(dtype); }
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
  std::vector<int> inputs;
  int output = -1;
  std::map<std::string, std::vector<int64_t>> ints;
  std::map<std::string, std::vector<double>> floats;
  std::map<std::string, std::vector<int>> exprs;
  std::map<std::string, int> constants;
  std::map<std::string, std::string> text;
};

struct ProgramParts {
  std::vector<Value> values;
  std::vector<Constant> constants;
  std::vector<Expr> exprs;
  std::vector<Step> steps;  // in execution order
  std::vector<int> inputs, outputs;
};

// A quantized network: portable, immutable, and valid by construction.
class Program {
 public:
  // Validates everything that does not depend on input shapes. Throws ProgramError naming the step or value.
  explicit Program(ProgramParts parts);
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  const std::vector<Value>& values() const noexcept { return parts_.values; }
  const std::vector<Constant>& constants() const noexcept { return parts_.constants; }
  const std::vector<Expr>& exprs() const noexcept { return parts_.exprs; }
  const std::vector<Step>& steps() const noexcept { return parts_.steps; }
  const std::vector<int>& inputs() const noexcept { return parts_.inputs; }
  const std::vector<int>& outputs() const noexcept { return parts_.outputs; }

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
  int constant(DType dtype, Dims shape, const void* data);
  int expr_const(int64_t value);
  int expr_dim(int value, int axis);
  int expr(ExprKind kind, int a, int b);
  void step(Step step);
  // The builder is empty afterwards.
  std::shared_ptr<const Program> build(std::vector<int> inputs, std::vector<int> outputs);

 private:
  int add_expr(Expr expr);
  ProgramParts parts_;
};

}  // namespace qfx
