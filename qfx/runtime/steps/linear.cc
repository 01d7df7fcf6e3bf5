#include "gemm/linear.h"

#include <memory>
#include <stdexcept>
#include <string>

#include "runtime/shapes.h"
#include "runtime/steps/step.h"

namespace qfx {
namespace {

// Sizes of a layer on floats, over the last dim.
struct LinearSizes {
  int64_t outputs = 0, features = 0;

  // Whether one range is that of all rows.
  static bool by_tensor() { return false; }

  explicit LinearSizes(const StepView& s) {
    const Constant* w = s.constant("weight");
    s.require(w->shape.size() == 2 && element_count(w->shape) > 0, "'weight' is not a matrix");
    outputs = w->shape[0];
    features = w->shape[1];
    s.require(s.input(0).rank() >= 1 && s.output().rank() == s.input(0).rank(), "the output's rank is not the input's");
  }
};

struct DynamicParams : LinearSizes {
  DynamicLinear layer;

  explicit DynamicParams(const StepView& s) : LinearSizes(s) {
    layer = {outputs,
             features,
             s.constant("weight")->as<int8_t>(),
             s.data<float>("weight_scale", outputs),
             s.data<int32_t>("weight_zero_point", outputs),
             s.data<float>("bias", outputs),
             s.flag("per_row"),
             s.input_count() == 2};
    const std::vector<double> bounds = s.floats("f32_clamp");
    layer.lo = static_cast<float>(bounds[0]);
    layer.hi = static_cast<float>(bounds[1]);
    s.require(!layer.residual || s.input(1).rank() == s.output().rank(), "the residual's rank is not the output's");
  }

  std::unique_ptr<PackedLinear> pack(Isa isa) const { return pack_linear_dynamic(layer, isa); }
  bool by_tensor() const { return !layer.per_row; }
};

struct HalfParams : LinearSizes {
  std::span<const uint16_t> weights;
  std::span<const float> bias;
  bool brain;

  explicit HalfParams(const StepView& s)
      : LinearSizes(s),
        weights(s.constant("weight")->as<uint16_t>()),
        bias(s.data<float>("bias", outputs)),
        brain(s.constant("weight")->dtype == DType::bf16) {}

  std::unique_ptr<PackedLinear> pack(Isa isa) const {
    return pack_linear_half(outputs, features, weights, bias, isa, brain);
  }
};

struct GroupedLayer : LinearSizes {
  GroupedLinear layer;

  explicit GroupedLayer(const StepView& s) : LinearSizes(s) {
    const Constant *weight = s.constant("weight"), *scale = s.constant("weight_scale");
    s.require(scale->shape.size() == 2 && scale->shape[0] == outputs && scale->shape[1] > 0 &&
                  features % scale->shape[1] == 0,
              "'weight_scale' is no matrix of a number of scales a row that divides the features");
    layer.outputs = outputs;
    layer.features = features;
    layer.group = features / scale->shape[1];
    layer.bits = weight->dtype == DType::s8 ? 8 : 4;
    layer.weights = weight->as<std::byte>();
    if (scale->dtype == DType::f16) {
      layer.half_scale = scale->as<uint16_t>();
    } else {
      layer.scale = scale->as<float>();
    }
    if (const Constant* zero = s.constant("weight_zero_point")) {
      s.require(zero->dtype == weight->dtype && zero->shape == scale->shape,
                "'weight_zero_point' is not of the weight's type and the scale's shape");
      layer.zero_point = zero->as<std::byte>();
    }
    layer.bias = s.data<float>("bias", outputs);
  }
};

struct GroupedParams : GroupedLayer {
  using GroupedLayer::GroupedLayer;

  std::unique_ptr<PackedLinear> pack(Isa isa) const { return pack_linear_grouped(layer, isa); }
};

struct DynamicGroupedParams : GroupedLayer {
  DynamicGroupedLinear dynamic;

  explicit DynamicGroupedParams(const StepView& s) : GroupedLayer(s) {
    const std::vector<double> bounds = s.floats("f32_clamp");
    dynamic = {layer, s.integer("x_group"), s.input_count() == 2, static_cast<float>(bounds[0]),
               static_cast<float>(bounds[1])};
    s.require(layer.group % dynamic.x_group == 0 || layer.group == features,
              "groups of 'weight_scale' are not whole groups of 'x_group' features");
    s.require(!dynamic.residual || s.input(1).rank() == s.output().rank(), "the residual's rank is not the output's");
  }

  std::unique_ptr<PackedLinear> pack(Isa isa) const { return pack_linear_dynamic_grouped(dynamic, isa); }
};

template <class Layer>
class LinearStep : public StepKernel {
 public:
  using Params = Layer;
  static constexpr bool copies_constants = true;
  LinearStep(Params params, Isa isa)
      : outputs_(params.outputs),
        features_(params.features),
        by_tensor_(params.by_tensor()),
        packed_(params.pack(isa)) {}

  size_t packed_bytes() const noexcept override { return packed_->packed_bytes(); }
  Dims shape(const StepShapes& in) const override {
    Dims y = in.inputs[0];
    if (y.back() != features_) {
      throw std::invalid_argument("the input has " + std::to_string(y.back()) + " features, not " +
                                  std::to_string(features_));
    }
    y.back() = outputs_;
    if (in.inputs.size() == 2 && in.inputs[1] != y) {
      throw std::invalid_argument("the residual has shape " + to_string(in.inputs[1]) + ", the output " + to_string(y));
    }
    return y;
  }
  Planned plan(const StepShapes&, const Dims& y) const override { return {packed_->plan(rows_of(y)), 0, nullptr}; }
  std::optional<QuantizedRows> quantized_rows() const override { return packed_->quantized_rows(); }
  std::unique_ptr<Work> plan_quantized(const StepShapes&, const Dims& y) const override {
    return packed_->plan_quantized(rows_of(y));
  }
  bool mixes_images(const StepShapes& in) const override { return by_tensor_ || in.inputs[0].size() == 1; }

 private:
  static int64_t rows_of(const Dims& y) { return element_count({y.data(), y.size() - 1}); }

  int64_t outputs_, features_;
  bool by_tensor_;
  std::unique_ptr<PackedLinear> packed_;
};

}  // namespace

std::vector<KernelRow> linear_rows() {
  return {kernel_row<LinearStep<DynamicParams>>("linear_dynamic"), kernel_row<LinearStep<HalfParams>>("linear_half"),
          kernel_row<LinearStep<GroupedParams>>("linear_grouped"),
          kernel_row<LinearStep<DynamicGroupedParams>>("linear_dynamic_grouped")};
}

}  // namespace qfx
