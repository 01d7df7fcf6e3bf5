#include "conv/conv.h"

#include <cmath>
#include <stdexcept>

#include "runtime/shapes.h"
#include "runtime/steps/step.h"

namespace qfx {
namespace {

float bound(const StepView& s, size_t i) {
  return static_cast<float>(s.floats("f32_clamp").at(i));
}

struct ConvParams {
  std::string name;
  size_t spatial = 0;  // 0: a linear layer over the last dim
  ConvGeometry geometry;
  ConvQuant quant;
  ConvConstants constants;

  explicit ConvParams(const StepView& s) : name(s.step().name) {
    const Constant* weight = s.constant("weight");
    parse_geometry(s, *weight);
    parse_quant(s);
    constants.weight = weight->as<int8_t>();
    constants.weight_zero_point = s.data<int32_t>("weight_zero_point", geometry.c_out);
    constants.bias = s.data<int32_t>("bias", geometry.c_out);
    constants.multiplier = s.data<float>("multiplier", geometry.c_out);
    constants.lut = s.data<uint8_t>("lut", 256);
    s.require(constants.lut.empty() || !quant.f32_output, "a 'lut' needs u8 output");
    for (const float m : constants.multiplier) s.require(std::isfinite(m), "'multiplier' is not finite");
  }

  void parse_geometry(const StepView& s, const Constant& weight) {
    s.require(weight.shape.size() >= 2 && weight.shape.size() <= 5, "'weight' has 2 to 5 dimensions");
    s.require(element_count(weight.shape) > 0, "'weight' is empty");
    spatial = weight.shape.size() - 2;
    geometry.linear = spatial == 0;
    const size_t rank = s.input(0).rank();
    s.require(spatial == 0 ? rank >= 1 : rank == spatial + 2, "the input's rank does not fit the weight's");
    s.require(s.output().rank() == rank, "the output's rank is not the input's");
    geometry.groups = s.integer("groups");
    geometry.c_out = weight.shape.front();
    s.require(geometry.c_out % geometry.groups == 0, "'groups' does not divide the output channels");
    s.require(spatial > 0 || geometry.groups == 1, "a linear layer has one group");
    geometry.c_in = weight.shape.back() * geometry.groups;
    for (size_t i = 0; i < spatial; ++i) geometry.kernel[3 - spatial + i] = weight.shape[1 + i];
    window(s, "stride", geometry.stride);
    window(s, "dilation", geometry.dilation);
    window(s, "padding_lo", geometry.pad_lo);
    window(s, "padding_hi", geometry.pad_hi);
  }

  void window(const StepView& s, const char* attribute, int64_t* entries) const {
    const Dims given = s.has(attribute) ? s.ints(attribute) : Dims(spatial, s.integer(attribute));
    s.require(given.size() == spatial, std::string("'") + attribute + "' has " + std::to_string(given.size()) +
                                           " entries, not " + std::to_string(spatial));
    for (size_t i = 0; i < spatial; ++i) entries[3 - spatial + i] = given[i];
  }

  void parse_quant(const StepView& s) {
    quant.x_zero_point = s.zero_point("x_zero_point");
    quant.f32_output = s.output().dtype == DType::f32;
    s.require(quant.f32_output || s.has("zero_point"), "u8 output needs 'zero_point'");
    quant.zero_point = s.zero_point("zero_point");
    s.clamp(&quant.lo, &quant.hi);
    quant.f32_lo = bound(s, 0);
    quant.f32_hi = bound(s, 1);
    quant.residual = s.input_count() == 2;
    quant.f32_residual = quant.residual && s.input(1).dtype == DType::f32;
    s.require(!quant.f32_residual || quant.f32_output, "an f32 residual needs f32 output");
    s.require(!quant.residual || quant.f32_residual || (s.has("residual_zero_point") && s.has("residual_multiplier")),
              "a u8 residual needs 'residual_zero_point' and 'residual_multiplier'");
    s.require(!quant.residual || s.input(1).rank() == s.output().rank(), "the residual's rank is not the output's");
    quant.residual_zero_point = s.zero_point("residual_zero_point");
    quant.residual_multiplier = s.multiplier("residual_multiplier");
  }
};

class ConvStep : public StepKernel {
 public:
  using Params = ConvParams;
  static constexpr bool copies_constants = true;
  ConvStep(Params params, Isa isa)
      : p_(std::move(params)), packed_(pack_conv(p_.geometry, p_.quant, p_.constants, isa)) {
    p_.constants = {};
  }

  size_t packed_bytes() const noexcept override { return packed_->packed_bytes(); }

  Dims shape(const StepShapes& in) const override {
    Dims y = in.inputs[0];
    if (y.back() != p_.geometry.c_in) {
      throw std::invalid_argument("the input has " + std::to_string(y.back()) + " channels, not " +
                                  std::to_string(p_.geometry.c_in));
    }
    for (size_t i = 0; i < p_.spatial; ++i) {
      const size_t k = 3 - p_.spatial + i;
      const ConvGeometry& g = p_.geometry;
      y[1 + i] = window_output(y[1 + i], g.kernel[k], g.stride[k], g.dilation[k], g.pad_lo[k], g.pad_hi[k], false);
    }
    y.back() = p_.geometry.c_out;
    if (p_.quant.residual && in.inputs[1] != y) {
      throw std::invalid_argument("the residual has shape " + to_string(in.inputs[1]) + ", the output " + to_string(y));
    }
    return y;
  }

  RowWindow row_window() const noexcept override {
    const ConvGeometry& g = p_.geometry;
    if (p_.spatial != 2) return {};
    return {g.dilation[1] * (g.kernel[1] - 1) + 1, g.stride[1], {g.pad_lo[1], g.pad_hi[1]}};
  }

  Planned plan(const StepShapes& in, const Dims& y) const override {
    const Dims& x = in.inputs[0];
    ConvShape shape;
    shape.n = p_.spatial == 0 ? element_count({x.data(), x.size() - 1}) : x[0];
    for (size_t i = 0; i < p_.spatial; ++i) {
      shape.in[3 - p_.spatial + i] = x[1 + i];
      shape.out[3 - p_.spatial + i] = y[1 + i];
    }
    if (in.row_padding) {
      shape.row_pad_lo = in.row_padding->lo;
      shape.row_pad_hi = in.row_padding->hi;
    }
    shape.x_pixel_stride = in.x_pixel_stride > 0 ? in.x_pixel_stride : p_.geometry.c_in;
    shape.y_pixel_stride = in.y_pixel_stride > 0 ? in.y_pixel_stride : p_.geometry.c_out;
    return {packed_->plan(shape), 0, nullptr};
  }

 private:
  Params p_;
  std::unique_ptr<PackedConv> packed_;
};

}  // namespace

std::vector<KernelRow> conv_rows() {
  return {kernel_row<ConvStep>("conv")};
}

}  // namespace qfx
