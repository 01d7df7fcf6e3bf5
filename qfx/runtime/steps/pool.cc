#include "pool/pool.h"

#include <cmath>
#include <stdexcept>

#include "runtime/shapes.h"
#include "runtime/steps/step.h"

namespace qfx {
namespace {

// Whether the step is the float form of an operation.
bool is_float(const StepView& s) {
  return s.step().op.ends_with("_f32");
}

// Number of spatial dims of a channels-last input: 1 to 3, or a failure.
size_t spatial_dims(const StepView& s) {
  const size_t rank = s.input(0).rank();
  s.require(rank >= 3 && rank <= 5, "the input has " + std::to_string(rank) + " dimensions, not 3 to 5");
  s.require(s.output().rank() == rank, "the output's rank is not the input's");
  return rank - 2;
}

// Spatial entries of `x`, right-aligned; the unused leading ones stay.
void place(const Dims& entries, int64_t* out) {
  for (size_t i = 0; i < entries.size(); ++i) out[3 - entries.size() + i] = entries[i];
}

Dims spatial_of(const Dims& x) {
  return {x.begin() + 1, x.end() - 1};
}

void require_pixels(const Dims& x) {
  for (const int64_t d : spatial_of(x)) {
    if (d == 0) throw std::invalid_argument("the input " + to_string(x) + " has an empty spatial dimension");
  }
}

AvgQuant parse_average(const StepView& s) {
  AvgQuant quant;
  quant.ratio = s.number("ratio");
  quant.x_zero_point = s.zero_point("x_zero_point");
  quant.zero_point = s.zero_point("zero_point");
  return quant;
}

struct WindowParams {
  Dims kernel, stride, padding_lo, padding_hi, dilation;
  bool ceil_mode, average, floats;
  bool count_include_pad = true;
  int64_t divisor = 0;
  AvgQuant quant;

  explicit WindowParams(const StepView& s)
      : kernel(s.ints("kernel")),
        stride(s.ints("stride")),
        padding_lo(s.ints("padding_lo")),
        padding_hi(s.ints("padding_hi")),
        dilation(kernel.size(), 1),
        ceil_mode(s.flag("ceil_mode")),
        average(s.step().op.starts_with("avg_pool")),
        floats(is_float(s)) {
    const size_t spatial = spatial_dims(s);
    if (average) {
      count_include_pad = s.flag("count_include_pad");
      divisor = s.integer("divisor");
    } else {
      dilation = s.ints("dilation");
    }
    for (size_t i = 0; i < spatial; ++i) {
      const int64_t reach = dilation[i] * (kernel[i] - 1) + 1;
      s.require(padding_lo[i] < reach && padding_hi[i] < reach, "padding is not smaller than the window");
    }
    if (average && !floats) quant = parse_average(s);
  }
};

class WindowPoolStep : public StepKernel {
 public:
  using Params = WindowParams;
  WindowPoolStep(Params params, Isa isa) : p_(std::move(params)), isa_(isa) {}

  Dims shape(const StepShapes& in) const override {
    Dims y = in.inputs[0];
    for (size_t i = 0; i < p_.kernel.size(); ++i) {
      y[1 + i] = window_output(y[1 + i], p_.kernel[i], p_.stride[i], p_.dilation[i], p_.padding_lo[i], p_.padding_hi[i],
                               p_.ceil_mode);
    }
    return y;
  }

  RowWindow row_window() const noexcept override {
    return {p_.dilation[0] * (p_.kernel[0] - 1) + 1, p_.stride[0], {p_.padding_lo[0], p_.padding_hi[0]}};
  }

  Planned plan(const StepShapes& in, const Dims& y) const override {
    const Dims& x = in.inputs[0];
    require_pixels(x);
    PoolGeometry g;
    g.n = x.front();
    g.channels = x.back();
    place(spatial_of(x), g.in);
    place(spatial_of(y), g.out);
    place(p_.kernel, g.kernel);
    place(p_.stride, g.stride);
    place(p_.dilation, g.dilation);
    place(p_.padding_lo, g.pad_lo);
    place(p_.padding_hi, g.pad_hi);
    if (in.row_padding) {
      g.pad_lo[1] = in.row_padding->lo;
      g.pad_hi[1] = std::min(in.row_padding->hi, g.pad_hi[1]);  // windows may end below the padding (ceil_mode)
    }
    if (p_.floats && p_.average) return {plan_avg_pool_f32(g, p_.count_include_pad, p_.divisor), 0, nullptr};
    if (p_.floats) return {plan_max_pool_f32(g), 0, nullptr};
    if (!p_.average) return {plan_max_pool(g, isa_), 0, nullptr};
    return {plan_avg_pool(g, p_.quant, p_.count_include_pad, p_.divisor, isa_), 0, nullptr};
  }

 private:
  Params p_;
  Isa isa_;
};

struct AdaptiveParams {
  Dims output_size;
  bool average, floats;
  AvgQuant quant;

  explicit AdaptiveParams(const StepView& s)
      : output_size(s.ints("output_size")), average(s.step().op.starts_with("adaptive_avg_pool")), floats(is_float(s)) {
    spatial_dims(s);
    if (average && !floats) quant = parse_average(s);
  }
};

class AdaptivePoolStep : public StepKernel {
 public:
  using Params = AdaptiveParams;
  AdaptivePoolStep(Params params, Isa isa) : p_(std::move(params)), isa_(isa) {}

  Dims shape(const StepShapes& in) const override {
    Dims y = in.inputs[0];
    for (size_t i = 0; i < p_.output_size.size(); ++i) {
      if (p_.output_size[i] > 0) y[1 + i] = p_.output_size[i];
    }
    return y;
  }

  Planned plan(const StepShapes& in, const Dims& y) const override {
    const Dims& x = in.inputs[0];
    require_pixels(x);
    PoolGeometry g;
    g.n = x.front();
    g.channels = x.back();
    place(spatial_of(x), g.in);
    place(spatial_of(y), g.out);
    if (p_.floats) return {p_.average ? plan_adaptive_avg_pool_f32(g) : plan_adaptive_max_pool_f32(g), 0, nullptr};
    return {p_.average ? plan_adaptive_avg_pool(g, p_.quant, isa_) : plan_adaptive_max_pool(g, isa_), 0, nullptr};
  }

 private:
  Params p_;
  Isa isa_;
};

struct MeanParams {
  std::vector<char> reduced;  // per dim of the input
  bool keepdim;
  AvgQuant quant;

  explicit MeanParams(const StepView& s)
      : reduced(s.input(0).rank(), 0), keepdim(s.flag("keepdim")), quant(parse_average(s)) {
    size_t count = 0;
    for (const int64_t a : s.ints("axes")) {
      s.require(a < static_cast<int64_t>(reduced.size()) && !reduced[a], "'axes' are not distinct axes");
      reduced[a] = 1;
      ++count;
    }
    s.require(count > 0, "'axes' is empty");
    s.require(s.output().rank() == reduced.size() - (keepdim ? 0 : count), "the output's rank does not fit 'axes'");
  }
};

class MeanStep : public StepKernel {
 public:
  using Params = MeanParams;
  MeanStep(Params params, Isa isa) : p_(std::move(params)), isa_(isa) {}

  Dims shape(const StepShapes& in) const override {
    Dims y;
    for (size_t i = 0; i < p_.reduced.size(); ++i) {
      if (!p_.reduced[i]) y.push_back(in.inputs[0][i]);
      if (p_.reduced[i] && p_.keepdim) y.push_back(1);
    }
    return y;
  }

  // Axes that do not lie side by side are brought together by a permuting copy first.
  Planned plan(const StepShapes& in, const Dims&) const override {
    const Dims& x = in.inputs[0];
    int64_t outer = 1, reduced = 1, inner = 1;
    bool together = true;
    for (size_t i = 0; i < x.size(); ++i) {
      if (p_.reduced[i]) {
        together = together && (inner == 1 || x[i] == 1);
        reduced *= x[i];
      } else if (reduced == 1) {
        outer *= x[i];
      } else {
        inner *= x[i];
      }
    }
    if (reduced == 0) throw std::invalid_argument("the mean of no elements: input " + to_string(x));
    if (together) return {plan_mean(outer, reduced, inner, p_.quant, isa_), 0, nullptr};
    return {plan_mean(outer * inner, reduced, 1, p_.quant, isa_), 0, plan_copy(reduced_last(x), isa_)};
  }

 private:
  Strided reduced_last(const Dims& x) const {
    const Dims strides = dense_strides(x);
    Strided copy;
    for (const bool last : {false, true}) {
      for (size_t i = 0; i < x.size(); ++i) {
        if ((p_.reduced[i] != 0) != last) continue;
        copy.shape.push_back(x[i]);
        copy.strides.push_back(strides[i]);
      }
    }
    return copy;
  }

  Params p_;
  Isa isa_;
};

struct ReduceParams {
  Reduction reduction;

  explicit ReduceParams(const StepView& s)
      : reduction(s.step().op == "mean_f32"  ? Reduction::mean
                  : s.step().op == "sum_f32" ? Reduction::sum
                                             : Reduction::max) {
    s.require(s.input(0).rank() == 3 && s.output().rank() == 2, "it takes [outer, reduced, inner] to [outer, inner]");
  }
};

class ReduceStep : public StepKernel {
 public:
  using Params = ReduceParams;
  ReduceStep(Params params, Isa) : p_(params) {}

  Dims shape(const StepShapes& in) const override { return {in.inputs[0][0], in.inputs[0][2]}; }
  Planned plan(const StepShapes& in, const Dims&) const override {
    const Dims& x = in.inputs[0];
    if (x[1] == 0 && p_.reduction != Reduction::sum) {
      throw std::invalid_argument("the mean or maximum of no elements: input " + to_string(x));
    }
    return {plan_reduce_f32(p_.reduction, x[0], x[1], x[2]), 0, nullptr};
  }

 private:
  Params p_;
};

struct InterpolateParams {
  std::vector<double> scale_factor;
  bool linear, align_corners, sized, floats;
  int32_t zero_point;

  explicit InterpolateParams(const StepView& s)
      : scale_factor(s.floats("scale_factor")),
        linear(s.flag("linear")),
        align_corners(s.flag("align_corners")),
        sized(s.has("size")),
        floats(is_float(s)),
        zero_point(floats ? 0 : s.zero_point("zero_point")) {
    spatial_dims(s);
    s.require(sized || !scale_factor.empty(), "'size' or 'scale_factor' is needed");
  }
};

class InterpolateStep : public StepKernel {
 public:
  using Params = InterpolateParams;
  InterpolateStep(Params params, Isa isa) : p_(std::move(params)), isa_(isa) {}

  Dims shape(const StepShapes& in) const override {
    Dims y = in.inputs[0];
    for (size_t i = 0; i + 2 < y.size(); ++i) {
      y[1 + i] = p_.sized ? in.exprs.at("size")[i] : scaled(y[1 + i], p_.scale_factor[i]);
      if (y[1 + i] <= 0) throw std::invalid_argument("the output size " + to_string(spatial_of(y)) + " is empty");
    }
    return y;
  }

  Planned plan(const StepShapes& in, const Dims& y) const override {
    const Dims& x = in.inputs[0];
    require_pixels(x);
    InterpolateGeometry g;
    g.n = x.front();
    g.channels = x.back();
    g.linear = p_.linear;
    g.align_corners = p_.align_corners;
    place(spatial_of(x), g.in);
    place(spatial_of(y), g.out);
    const size_t spatial = x.size() - 2;
    for (size_t i = 0; i < spatial; ++i) g.scale[3 - spatial + i] = source_step(x[1 + i], y[1 + i], i);
    if (p_.floats) return {plan_interpolate_f32(g), 0, nullptr};
    return {plan_interpolate(g, p_.zero_point, isa_), 0, nullptr};
  }

 private:
  static int64_t scaled(int64_t n, double factor) {
    const double size = std::floor(static_cast<double>(n) * factor);
    if (size >= 0x1p40) throw std::invalid_argument("'scale_factor' makes the output too large");
    return static_cast<int64_t>(size);
  }

  // As torch: area_pixel_compute_scale and compute_scales_value.
  double source_step(int64_t in, int64_t out, size_t i) const {
    const auto from = static_cast<double>(in), to = static_cast<double>(out);
    if (p_.linear && p_.align_corners) return out > 1 ? (from - 1.0) / (to - 1.0) : 0.0;
    return p_.scale_factor.empty() ? from / to : 1.0 / p_.scale_factor[i];
  }

  Params p_;
  Isa isa_;
};

}  // namespace

std::vector<KernelRow> pool_rows() {
  return {kernel_row<WindowPoolStep>("max_pool"),
          kernel_row<WindowPoolStep>("avg_pool"),
          kernel_row<AdaptivePoolStep>("adaptive_avg_pool"),
          kernel_row<AdaptivePoolStep>("adaptive_max_pool"),
          kernel_row<MeanStep>("mean"),
          kernel_row<InterpolateStep>("interpolate"),
          kernel_row<WindowPoolStep>("max_pool_f32"),
          kernel_row<WindowPoolStep>("avg_pool_f32"),
          kernel_row<AdaptivePoolStep>("adaptive_avg_pool_f32"),
          kernel_row<AdaptivePoolStep>("adaptive_max_pool_f32"),
          kernel_row<ReduceStep>("mean_f32"),
          kernel_row<ReduceStep>("sum_f32"),
          kernel_row<ReduceStep>("amax_f32"),
          kernel_row<InterpolateStep>("interpolate_f32")};
}

}  // namespace qfx
