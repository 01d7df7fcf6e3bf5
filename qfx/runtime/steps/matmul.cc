#include "gemm/matmul.h"

#include <stdexcept>

#include "runtime/shapes.h"
#include "runtime/steps/step.h"

namespace qfx {
namespace {

struct MatmulParams {
  MatmulQuant quant;
  std::vector<size_t> x, y, out;

  explicit MatmulParams(const StepView& s) {
    const size_t rank = s.input(0).rank();
    s.require(rank >= 2 && s.input(1).rank() == rank && s.output().rank() == rank,
              "operands and result are of one rank, 2 at least");
    x = s.places("x_perm", rank);
    y = s.places("y_perm", rank);
    out = s.places("perm", rank);
    s.require(x.back() + 1 == rank && out.back() + 1 == rank, "the last dim of x and of the result is last in memory");
    parse_quant(s);
  }

  void parse_quant(const StepView& s) {
    quant.x_zero_point = s.zero_point("x_zero_point");
    quant.y_zero_point = s.zero_point("y_zero_point");
    quant.multiplier = s.multiplier("multiplier");
    quant.f32_output = s.output().dtype == DType::f32;
    s.require(quant.f32_output || s.has("zero_point"), "u8 output needs 'zero_point'");
    quant.zero_point = s.zero_point("zero_point");
    s.clamp(&quant.lo, &quant.hi);
    const std::vector<double> bounds = s.floats("f32_clamp");
    quant.f32_lo = static_cast<float>(bounds[0]);
    quant.f32_hi = static_cast<float>(bounds[1]);
    const auto lut = s.data<uint8_t>("lut", 256);
    s.require(lut.empty() || !quant.f32_output, "a 'lut' needs u8 output");
    quant.lut.assign(lut.begin(), lut.end());
  }
};

class CodedMatmulStep : public StepKernel {
 public:
  using Params = MatmulParams;
  static constexpr bool copies_constants = true;
  CodedMatmulStep(Params params, Isa isa) : p_(std::move(params)), isa_(isa) {}

  Dims shape(const StepShapes& in) const override {
    const Dims &a = in.inputs[0], &b = in.inputs[1];
    const size_t rank = a.size();
    Dims y(rank);
    for (size_t i = 0; i < rank; ++i) {
      const int64_t from_x = a[p_.x[i]], from_y = b[p_.y[i]];
      const bool same = i + 2 >= rank || from_x == from_y || from_x == 1 || from_y == 1;
      if (!same) fail(a, b);
      y[p_.out[i]] = i + 1 == rank ? from_y : (i + 2 == rank || from_y == 1 ? from_x : from_y);
    }
    if (a[p_.x[rank - 1]] != b[p_.y[rank - 2]]) fail(a, b);
    return y;
  }

  Planned plan(const StepShapes& in, const Dims& y) const override {
    const Dims &a = in.inputs[0], &b = in.inputs[1];
    const Dims sa = dense_strides(a), sb = dense_strides(b), sy = dense_strides(y);
    const size_t rank = a.size(), row = rank - 2, column = rank - 1;
    MatmulShape s;
    s.m = a[p_.x[row]];
    s.k = a[p_.x[column]];
    s.n = b[p_.y[column]];
    s.x_row = sa[p_.x[row]];
    s.y_row = sb[p_.y[row]];
    s.y_col = sb[p_.y[column]];
    s.out_row = sy[p_.out[row]];
    for (size_t i = 0; i < row; ++i) {
      s.batch.push_back(y[p_.out[i]]);
      s.x_batch.push_back(a[p_.x[i]] == 1 ? 0 : sa[p_.x[i]]);
      s.y_batch.push_back(b[p_.y[i]] == 1 ? 0 : sb[p_.y[i]]);
      s.out_batch.push_back(sy[p_.out[i]]);
    }
    return {plan_matmul(p_.quant, s, isa_), 0, nullptr};
  }

  bool mixes_images(const StepShapes&) const override {
    return p_.x.front() != 0 || p_.y.front() != 0 || p_.out.front() != 0;
  }

 private:
  [[noreturn]] static void fail(const Dims& a, const Dims& b) {
    throw std::invalid_argument("shapes " + to_string(a) + " and " + to_string(b) + " do not multiply");
  }

  Params p_;
  Isa isa_;
};

}  // namespace

std::vector<KernelRow> matmul_rows() {
  return {kernel_row<CodedMatmulStep>("matmul")};
}

}  // namespace qfx
