#include "conv/problem.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>

namespace qfx::conv {
namespace {

void require(bool holds, const std::string& what) {
  if (!holds) throw std::invalid_argument("conv: " + what);
}

std::string is(const char* name, int64_t value) { return std::string(name) + " is " + std::to_string(value); }

bool is_code(int32_t value) { return value >= 0 && value <= 255; }

void check_geometry(const ConvGeometry& g) {
  require(g.groups > 0 && g.c_in > 0 && g.c_out > 0, "channels and groups must be positive");
  require(g.c_in % g.groups == 0 && g.c_out % g.groups == 0, is("groups", g.groups) + ", which does not divide the channels");
  for (int d = 0; d < 3; ++d) {
    require(g.kernel[d] > 0 && g.stride[d] > 0 && g.dilation[d] > 0, "kernel, stride and dilation must be positive");
    require(g.pad_lo[d] >= 0 && g.pad_hi[d] >= 0, "padding must not be negative");
  }
}

void check_quant(const ConvQuant& q) {
  require(is_code(q.x_zero_point), is("x_zero_point", q.x_zero_point) + ", outside 0..255");
  require(is_code(q.zero_point), is("zero_point", q.zero_point) + ", outside 0..255");
  require(is_code(q.residual_zero_point), is("residual_zero_point", q.residual_zero_point) + ", outside 0..255");
  require(is_code(q.lo) && is_code(q.hi) && q.lo <= q.hi,
          "clamp [" + std::to_string(q.lo) + ", " + std::to_string(q.hi) + "] is not a range within 0..255");
}

void check_constants(const ConvGeometry& g, const ConvConstants& c) {
  const auto count = static_cast<size_t>(g.c_out);
  const auto weights = count * static_cast<size_t>(pixels(g.kernel) * (g.c_in / g.groups));
  require(c.weight.size() == weights, is("weight size", static_cast<int64_t>(c.weight.size())) + ", expected " + std::to_string(weights));
  require(c.bias.size() == count, is("bias size", static_cast<int64_t>(c.bias.size())));
  require(c.multiplier.size() == count, is("multiplier size", static_cast<int64_t>(c.multiplier.size())));
  require(c.weight_zero_point.empty() || c.weight_zero_point.size() == count,
          is("weight_zero_point size", static_cast<int64_t>(c.weight_zero_point.size())));
  require(c.lut.empty() || c.lut.size() == 256, is("lut size", static_cast<int64_t>(c.lut.size())));
  for (const int32_t z : c.weight_zero_point) require(z >= -128 && z <= 127, is("weight_zero_point", z) + ", outside -128..127");
}

// Checks that acc stays within s32 whatever the input; the largest |v| that it leads to.
double check_range(const Problem& p) {
  double bound = 0;
  const int32_t low = -p.quant.x_zero_point;
  const int32_t high = 255 - p.quant.x_zero_point;
  for (int64_t o = 0; o < p.geometry.c_out; ++o) {
    int64_t smallest = p.bias[static_cast<size_t>(o)];
    int64_t largest = smallest;
    for (int64_t t = 0; t < p.taps(); ++t) {
      for (int64_t c = 0; c < p.group_in(); ++c) {
        const int32_t w = p.centered(o, t, c);
        smallest += std::min(low * w, high * w);
        largest += std::max(low * w, high * w);
      }
    }
    require(smallest >= std::numeric_limits<int32_t>::min() && largest <= std::numeric_limits<int32_t>::max(),
            "the sum of output channel " + std::to_string(o) + " could leave s32");
    const auto extreme = static_cast<double>(std::max(-smallest, largest));
    bound = std::max(bound, extreme * std::abs(static_cast<double>(p.multiplier[static_cast<size_t>(o)])));
  }
  return p.quant.residual ? bound + 255.0 * std::abs(static_cast<double>(p.quant.residual_multiplier)) : bound;
}

}  // namespace

bool Problem::padded() const noexcept {
  const auto any = [](const int64_t(&pad)[3]) { return pad[0] != 0 || pad[1] != 0 || pad[2] != 0; };
  return any(geometry.pad_lo) || any(geometry.pad_hi);
}

int32_t Problem::folded_bias(int64_t o) const noexcept {
  int64_t sum = 0;
  for (int64_t t = 0; t < taps(); ++t) {
    for (int64_t c = 0; c < group_in(); ++c) sum += centered(o, t, c);
  }
  return static_cast<int32_t>(static_cast<uint32_t>(bias[static_cast<size_t>(o)] - quant.x_zero_point * sum));
}

Problem make_problem(const ConvGeometry& geometry, const ConvQuant& quant, const ConvConstants& constants) {
  check_geometry(geometry);
  check_quant(quant);
  check_constants(geometry, constants);
  Problem problem{geometry,
                  quant,
                  {constants.weight.begin(), constants.weight.end()},
                  {constants.weight_zero_point.begin(), constants.weight_zero_point.end()},
                  {constants.bias.begin(), constants.bias.end()},
                  {constants.multiplier.begin(), constants.multiplier.end()},
                  {constants.lut.begin(), constants.lut.end()},
                  0.0};
  auto& zero_points = problem.weight_zero_point;
  if (std::all_of(zero_points.begin(), zero_points.end(), [](int32_t z) { return z == 0; })) zero_points.clear();
  problem.bound = check_range(problem);
  return problem;
}

void check_shape(const ConvGeometry& g, const ConvShape& shape) {
  require(shape.n >= 0, is("batch", shape.n));
  require(shape.x_pixel_stride >= g.c_in, is("x_pixel_stride", shape.x_pixel_stride) + ", less than the input channels");
  require(shape.y_pixel_stride >= g.c_out, is("y_pixel_stride", shape.y_pixel_stride) + ", less than the output channels");
  for (int d = 0; d < 3; ++d) {
    const int64_t extent = (g.kernel[d] - 1) * g.dilation[d] + 1;
    const int64_t room = shape.in[d] + g.pad_lo[d] + g.pad_hi[d] - extent;
    const int64_t out = room < 0 ? 0 : room / g.stride[d] + 1;
    require(shape.out[d] == out, is("output extent", shape.out[d]) + ", expected " + std::to_string(out));
  }
}

}  // namespace qfx::conv
