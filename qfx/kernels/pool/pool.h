#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "core/isa.h"
#include "core/work.h"

namespace qfx {

// Window pooling over channels-last values, 3 spatial dims (unused leading ones 1); u8 unless a name says f32.
struct PoolGeometry {
  int64_t n = 0, channels = 0;
  int64_t in[3] = {1, 1, 1}, out[3] = {1, 1, 1};
  int64_t kernel[3] = {1, 1, 1}, stride[3] = {1, 1, 1}, dilation[3] = {1, 1, 1};
  int64_t pad_lo[3] = {0, 0, 0};
  int64_t pad_hi[3] = {0, 0, 0};
};

// Max over the part of the window that lies inside the input. in = {x}, out = {y}.
std::unique_ptr<Work> plan_max_pool(const PoolGeometry& geometry, Isa isa);

// v = float(sum (x - x_zero_point)) * float32(ratio / count), y = requantize(v, zero_point, 0, 255).
// count: divisor if > 0, else the window clipped to the padded input (count_include_pad) or to the input.
struct AvgQuant {
  double ratio = 1.0;  // s_x / s_y
  int32_t x_zero_point = 0, zero_point = 0;
};
std::unique_ptr<Work> plan_avg_pool(const PoolGeometry& geometry, const AvgQuant& quant, bool count_include_pad,
                                    int64_t divisor, Isa isa);

// Windows [floor(i*in/out), ceil((i+1)*in/out)) as torch's adaptive pooling.
std::unique_ptr<Work> plan_adaptive_avg_pool(const PoolGeometry& geometry, const AvgQuant& quant, Isa isa);
std::unique_ptr<Work> plan_adaptive_max_pool(const PoolGeometry& geometry, Isa isa);

// Mean of a [outer][reduced][inner] u8 tensor over its middle dim, same arithmetic, count = reduced.
std::unique_ptr<Work> plan_mean(int64_t outer, int64_t reduced, int64_t inner, const AvgQuant& quant, Isa isa);

// Nearest: src = min(int(floor(float32(i) * float32 scale)), in-1), as torch; linear kinds: see interpolate.cc.
struct InterpolateGeometry {
  int64_t n = 0, channels = 0;
  int64_t in[3] = {1, 1, 1}, out[3] = {1, 1, 1};
  double scale[3] = {1, 1, 1};  // source step per output index, as torch computes it
  bool linear = false, align_corners = false;
};
std::unique_ptr<Work> plan_interpolate(const InterpolateGeometry& geometry, int32_t zero_point, Isa isa);

// The same on f32, as float ops: sums, means and weights in float64 in a fixed order, rounded once. NaN wins a
// maximum, which is minus infinity over nothing.
std::unique_ptr<Work> plan_max_pool_f32(const PoolGeometry& geometry);
std::unique_ptr<Work> plan_avg_pool_f32(const PoolGeometry& geometry, bool count_include_pad, int64_t divisor);
std::unique_ptr<Work> plan_adaptive_max_pool_f32(const PoolGeometry& geometry);
std::unique_ptr<Work> plan_adaptive_avg_pool_f32(const PoolGeometry& geometry);
std::unique_ptr<Work> plan_interpolate_f32(const InterpolateGeometry& geometry);

// Of a [outer][reduced][inner] tensor over its middle dim.
enum class Reduction : int { mean, sum, max };
std::unique_ptr<Work> plan_reduce_f32(Reduction reduction, int64_t outer, int64_t reduced, int64_t inner);

}  // namespace qfx
