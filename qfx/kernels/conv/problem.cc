#include "conv/problem.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>

#include "core/packed.h"

namespace qfx::conv {
namespace {

void require(bool holds, const std::string& what) {
  if (!holds) throw std::invalid_argument("conv: " + what);
}

std::string is(const char* name, int64_t value) {
  return std::string(name) + " is " + std::to_string(value);
}

bool is_code(int32_t value) {
  return value >= 0 && value <= 255;
}

void check_geometry(const ConvGeometry& g) {
  require(g.groups > 0 && g.c_in > 0 && g.c_out > 0, "channels and groups must be positive");
  require(g.c_in % g.groups == 0 && g.c_out % g.groups == 0,
          is("groups", g.groups) + ", which does not divide the channels");
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
  require(!q.f32_residual || q.f32_output, "an f32 residual needs f32 output");
}

void check_constants(const ConvGeometry& g, const ConvConstants& c) {
  const auto count = static_cast<size_t>(g.c_out);
  const auto weights = count * static_cast<size_t>(pixels(g.kernel) * (g.c_in / g.groups));
  require(c.weight.size() == weights,
          is("weight size", static_cast<int64_t>(c.weight.size())) + ", expected " + std::to_string(weights));
  require(c.bias.size() == count, is("bias size", static_cast<int64_t>(c.bias.size())));
  require(c.multiplier.size() == count, is("multiplier size", static_cast<int64_t>(c.multiplier.size())));
  require(c.weight_zero_point.empty() || c.weight_zero_point.size() == count,
          is("weight_zero_point size", static_cast<int64_t>(c.weight_zero_point.size())));
  require(c.lut.empty() || c.lut.size() == 256, is("lut size", static_cast<int64_t>(c.lut.size())));
  for (const int32_t z : c.weight_zero_point)
    require(z >= -128 && z <= 127, is("weight_zero_point", z) + ", outside -128..127");
}

// The sums of an output channel's centred weights of either sign.
struct Sums {
  int64_t positive = 0;
  int64_t negative = 0;
};

Sums weight_sums(const Problem& p, int64_t o) {
  const int64_t count = p.taps() * p.group_in();
  const int8_t* weight = p.weight.data() + o * count;
  const int32_t zero_point = p.weight_zero_point.empty() ? 0 : p.weight_zero_point[static_cast<size_t>(o)];
  Sums sums;
  for (int64_t begin = 0; begin < count; begin += 1 << 16) {  // s32 within a block, for the vectorizer
    int32_t positive = 0, negative = 0;
    for (int64_t i = begin; i < std::min<int64_t>(count, begin + (1 << 16)); ++i) {
      const int32_t w = weight[i] - zero_point;
      positive += std::max(w, 0);
      negative += std::min(w, 0);
    }
    sums.positive += positive;
    sums.negative += negative;
  }
  return sums;
}

struct Folded {
  int32_t* bias;
  double bound = 0.0;
};

// Folds the zero points into the bias and bounds |v|. acc must stay within s32 whatever the input.
void fold(const Problem& p, Folded& folded) {
  const int64_t low = -p.quant.x_zero_point;
  const int64_t high = 255 - p.quant.x_zero_point;
  for (int64_t o = 0; o < p.geometry.c_out; ++o) {
    const auto at = static_cast<size_t>(o);
    const Sums sums = weight_sums(p, o);
    const int64_t smallest = p.bias[at] + low * sums.positive + high * sums.negative;
    const int64_t largest = p.bias[at] + high * sums.positive + low * sums.negative;
    require(smallest >= std::numeric_limits<int32_t>::min() && largest <= std::numeric_limits<int32_t>::max(),
            "the sum of output channel " + std::to_string(o) + " could leave s32");
    folded.bias[at] = static_cast<int32_t>(static_cast<uint32_t>(p.bias[at] + low * (sums.positive + sums.negative)));
    const auto extreme = static_cast<double>(std::max(-smallest, largest));
    folded.bound = std::max(folded.bound, extreme * std::abs(static_cast<double>(p.multiplier[at])));
  }
}

void set_folded(Problem& p) {
  const auto count = static_cast<size_t>(p.geometry.c_out);
  const PackedArray<int32_t> packed(count + 2, [&](int32_t* to) {
    Folded folded{to};
    fold(p, folded);
    std::memcpy(to + count, &folded.bound, sizeof folded.bound);
  });
  p.folded_bias.assign(packed.begin(), packed.begin() + count);
  std::memcpy(&p.bound, packed.begin() + count, sizeof p.bound);
  if (p.quant.residual && !p.quant.f32_residual)
    p.bound += 255.0 * std::abs(static_cast<double>(p.quant.residual_multiplier));
}

}  // namespace

gemm::Epilogue epilogue_of(const Problem& problem) noexcept {
  gemm::Epilogue e = gemm::epilogue_of(problem.quant, problem.bound);
  e.residual_zero_point = problem.quant.residual_zero_point;
  e.residual_multiplier = problem.quant.residual_multiplier;
  e.byte_permutes = problem.byte_permutes;
  problem.lut.attach(e);
  return e;
}

void set_residual(gemm::Output& out, const ConvQuant& quant, const void* residual, int64_t at) noexcept {
  if (!quant.residual) return;
  if (quant.f32_residual)
    out.addend = static_cast<const float*>(residual) + at;
  else
    out.residual = static_cast<const uint8_t*>(residual) + at;
}

bool Problem::padded() const noexcept {
  const auto any = [](const int64_t (&pad)[3]) { return pad[0] != 0 || pad[1] != 0 || pad[2] != 0; };
  return any(geometry.pad_lo) || any(geometry.pad_hi);
}

Problem make_problem(const ConvGeometry& geometry, const ConvQuant& quant, const ConvConstants& constants) {
  check_geometry(geometry);
  check_quant(quant);
  check_constants(geometry, constants);
  Problem problem{geometry,
                  quant,
                  constants.weight,
                  {constants.weight_zero_point.begin(), constants.weight_zero_point.end()},
                  {constants.bias.begin(), constants.bias.end()},
                  {constants.multiplier.begin(), constants.multiplier.end()},
                  gemm::LookupTable(constants.lut),
                  {},
                  gemm::has_byte_permutes(),
                  0.0};
  auto& zero_points = problem.weight_zero_point;
  if (std::ranges::all_of(zero_points, [](int32_t z) { return z == 0; })) zero_points.clear();
  set_folded(problem);
  return problem;
}

void check_shape(const ConvGeometry& g, const ConvShape& shape) {
  require(shape.n >= 0, is("batch", shape.n));
  require(shape.x_pixel_stride >= g.c_in,
          is("x_pixel_stride", shape.x_pixel_stride) + ", less than the input channels");
  require(shape.y_pixel_stride >= g.c_out,
          is("y_pixel_stride", shape.y_pixel_stride) + ", less than the output channels");
  for (int d = 0; d < 3; ++d) {
    const int64_t extent = (g.kernel[d] - 1) * g.dilation[d] + 1;
    const int64_t below = d == 1 && shape.row_pad_hi >= 0 ? shape.row_pad_hi : g.pad_hi[d];
    const int64_t room = shape.in[d] + (d == 1 ? rows_above(g, shape) : g.pad_lo[d]) + below - extent;
    const int64_t out = room < 0 ? 0 : room / g.stride[d] + 1;
    require(shape.out[d] == out, is("output extent", shape.out[d]) + ", expected " + std::to_string(out));
  }
}

}  // namespace qfx::conv
