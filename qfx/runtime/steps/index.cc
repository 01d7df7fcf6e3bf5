#include "index/index.h"

#include <string>
#include <utility>

#include "runtime/shapes.h"
#include "runtime/steps/step.h"

namespace qfx {
namespace {

struct EmbeddingParams {
  RowTable table;
  bool wide;  // indices of 64 bits

  explicit EmbeddingParams(const StepView& s) : wide(s.input(0).dtype == DType::s64) {
    const Constant& given = *s.constant("table");
    s.require(given.shape.size() == 2, "'table' is not of two dims");
    s.require(s.output().rank() == s.input(0).rank() + 1, "y has not one dim more than the indices");
    table.rows = given.shape[0];
    table.features = given.shape[1];
    if (given.dtype == DType::f32) {
      s.require(!s.has("scale") && !s.has("zero_point"), "a table of f32 has no scale");
      table.floats = given.as<float>().data();
      return;
    }
    s.require(s.has("scale"), "a table of s8 has no scale");
    table.codes = given.as<int8_t>().data();
    table.scale = of_rows<float>(s, "scale");
    if (s.has("zero_point")) table.zero_point = of_rows<int32_t>(s, "zero_point");
  }

 private:
  template <class T>
  std::span<const T> of_rows(const StepView& s, const char* name) const {
    const int64_t count = s.constant(name)->size();
    s.require(count == 1 || count == table.rows, std::string("'") + name + "' is neither one nor one a row");
    return s.data<T>(name, count);
  }
};

class EmbeddingStep : public StepKernel {
 public:
  using Params = EmbeddingParams;
  EmbeddingStep(Params params, Isa) : p_(params) {}

  Dims shape(const StepShapes& in) const override {
    Dims y = in.inputs[0];
    y.push_back(p_.table.features);
    return y;
  }

  Planned plan(const StepShapes& in, const Dims&) const override {
    const int64_t count = element_count(in.inputs[0]);
    return {p_.wide ? plan_embedding<int64_t>(p_.table, count) : plan_embedding<int32_t>(p_.table, count), 0, nullptr};
  }

 private:
  Params p_;
};

struct ToF32Params {
  DType from;

  explicit ToF32Params(const StepView& s) : from(s.input(0).dtype) {
    s.require(s.output().rank() == s.input(0).rank(), "x and y are of one rank");
  }
};

class ToF32Step : public StepKernel {
 public:
  using Params = ToF32Params;
  ToF32Step(Params params, Isa) : p_(params) {}

  Dims shape(const StepShapes& in) const override { return in.inputs[0]; }

  Planned plan(const StepShapes&, const Dims& y) const override {
    const int64_t count = element_count(y);
    if (p_.from == DType::s64) return {plan_to_f32<int64_t>(count), 0, nullptr};
    if (p_.from == DType::s32) return {plan_to_f32<int32_t>(count), 0, nullptr};
    return {plan_to_f32<uint8_t>(count), 0, nullptr};
  }

 private:
  Params p_;
};

}  // namespace

std::vector<KernelRow> index_rows() {
  return {kernel_row<EmbeddingStep>("embedding"), kernel_row<ToF32Step>("to_f32")};
}

}  // namespace qfx
