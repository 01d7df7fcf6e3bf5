#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "core/requant.h"
#include "kernel_check.h"
#include "pool/pool.h"

using namespace qfx;
using namespace qfx::test;

namespace {

// The flat index of a pixel and channel.
int64_t at(const PoolGeometry& g, const int64_t (&size)[3], int64_t n, const int64_t (&i)[3], int64_t c) {
  return (((n * size[0] + i[0]) * size[1] + i[1]) * size[2] + i[2]) * g.channels + c;
}

// body(n, output index, channel, y index) for every element of y.
template <class Body>
void for_each_output(const PoolGeometry& g, Body&& body) {
  int64_t i[3];
  for (int64_t n = 0; n < g.n; ++n)
    for (i[0] = 0; i[0] < g.out[0]; ++i[0])
      for (i[1] = 0; i[1] < g.out[1]; ++i[1])
        for (i[2] = 0; i[2] < g.out[2]; ++i[2])
          for (int64_t c = 0; c < g.channels; ++c) body(n, i, c, static_cast<size_t>(at(g, g.out, n, i, c)));
}

struct Taps {
  std::vector<uint8_t> codes;
  int64_t padded = 0;
};

Taps sliding_taps(const PoolGeometry& g, const Bytes& x, int64_t n, const int64_t (&o)[3], int64_t c) {
  Taps taps;
  int64_t k[3];
  for (k[0] = 0; k[0] < g.kernel[0]; ++k[0])
    for (k[1] = 0; k[1] < g.kernel[1]; ++k[1])
      for (k[2] = 0; k[2] < g.kernel[2]; ++k[2]) {
        int64_t i[3];
        bool inside = true, padded = true;
        for (int d = 0; d < 3; ++d) {
          i[d] = o[d] * g.stride[d] - g.pad_lo[d] + k[d] * g.dilation[d];
          inside = inside && i[d] >= 0 && i[d] < g.in[d];
          padded = padded && i[d] < g.in[d] + g.pad_hi[d];
        }
        taps.padded += padded ? 1 : 0;
        if (inside) taps.codes.push_back(x[static_cast<size_t>(at(g, g.in, n, i, c))]);
      }
  return taps;
}

Taps adaptive_taps(const PoolGeometry& g, const Bytes& x, int64_t n, const int64_t (&o)[3], int64_t c) {
  Taps taps;
  int64_t lo[3], hi[3], i[3];
  for (int d = 0; d < 3; ++d) {
    lo[d] = o[d] * g.in[d] / g.out[d];
    hi[d] = ((o[d] + 1) * g.in[d] + g.out[d] - 1) / g.out[d];
  }
  for (i[0] = lo[0]; i[0] < hi[0]; ++i[0])
    for (i[1] = lo[1]; i[1] < hi[1]; ++i[1])
      for (i[2] = lo[2]; i[2] < hi[2]; ++i[2]) taps.codes.push_back(x[static_cast<size_t>(at(g, g.in, n, i, c))]);
  return taps;
}

uint8_t most(const Taps& taps) {
  return taps.codes.empty() ? uint8_t{0} : *std::max_element(taps.codes.begin(), taps.codes.end());
}

uint8_t average(const Taps& taps, const AvgQuant& q, int64_t count) {
  int64_t sum = 0;
  for (uint8_t code : taps.codes) sum += code - q.x_zero_point;
  const float m = static_cast<float>(q.ratio / static_cast<double>(count));
  return requantize(static_cast<float>(sum) * m, q.zero_point, 0, 255);
}

AvgQuant random_quant(Rng& rng) {
  AvgQuant q;
  q.ratio = rng.pick<double>({1.0, rng.real(0.1, 4.0), 1e-6, 1e6});
  q.x_zero_point = static_cast<int32_t>(rng.pick<int64_t>({0, 255, rng.integer(0, 255)}));
  q.zero_point = static_cast<int32_t>(rng.pick<int64_t>({0, 255, q.x_zero_point, rng.integer(0, 255)}));
  return q;
}

int64_t random_channels(Rng& rng) {
  return rng.pick<int64_t>({0, 1, 3, 8, 15, 16, 17, 24, 31, 32, 33, 63, 64, 65, 96, 130, 255, 256, 257, 330});
}

int64_t out_size(int64_t in, int64_t kernel, int64_t stride, int64_t lo, int64_t hi, int64_t dilation) {
  const int64_t room = in + lo + hi - dilation * (kernel - 1) - 1;
  return room < 0 ? 0 : room / stride + 1;
}

PoolGeometry random_geometry(Rng& rng, bool dilated) {
  PoolGeometry g;
  g.n = rng.integer(0, 3);
  g.channels = random_channels(rng);
  for (int64_t d = 3 - rng.integer(1, 3); d < 3; ++d) {
    g.in[d] = rng.integer(1, 9);
    g.kernel[d] = rng.integer(1, 4);
    g.stride[d] = rng.integer(1, 3);
    g.dilation[d] = dilated ? rng.integer(1, 2) : 1;
    g.pad_lo[d] = rng.integer(0, g.kernel[d] / 2);
    g.pad_hi[d] = rng.integer(0, g.kernel[d] / 2);
    g.out[d] = out_size(g.in[d], g.kernel[d], g.stride[d], g.pad_lo[d], g.pad_hi[d], g.dilation[d]);
    // ceil_mode: one window more, when it starts inside the input or the padding before it.
    if (rng.integer(0, 3) == 0 && g.out[d] * g.stride[d] < g.in[d] + g.pad_lo[d]) ++g.out[d];
  }
  return g;
}

PoolGeometry square(int64_t n, int64_t channels, int64_t size, int64_t kernel, int64_t stride, int64_t pad) {
  PoolGeometry g;
  g.n = n;
  g.channels = channels;
  for (int d : {1, 2}) {
    g.in[d] = size;
    g.kernel[d] = kernel;
    g.stride[d] = stride;
    g.pad_lo[d] = g.pad_hi[d] = pad;
    g.out[d] = out_size(size, kernel, stride, pad, pad, 1);
  }
  return g;
}

int64_t in_elements(const PoolGeometry& g) {
  return g.n * g.in[0] * g.in[1] * g.in[2] * g.channels;
}
size_t out_elements(const PoolGeometry& g) {
  return static_cast<size_t>(g.n * g.out[0] * g.out[1] * g.out[2] * g.channels);
}

std::string shown_geometry(const PoolGeometry& g) {
  std::string text = "n " + std::to_string(g.n) + " channels " + std::to_string(g.channels);
  for (int d = 0; d < 3; ++d)
    text += " | " + std::to_string(g.in[d]) + " -> " + std::to_string(g.out[d]) + " kernel " +
            std::to_string(g.kernel[d]) + " stride " + std::to_string(g.stride[d]) + " pad " +
            std::to_string(g.pad_lo[d]);
  return text;
}

void check_max(Rng& rng, const PoolGeometry& g) {
  const Bytes x = random_bytes(rng, in_elements(g));
  Bytes y(out_elements(g));
  for_each_output(
      g, [&](int64_t n, const int64_t (&o)[3], int64_t c, size_t i) { y[i] = most(sliding_taps(g, x, n, o, c)); });
  check_on_every_isa([&](Isa isa) { return plan_max_pool(g, isa); }, {x}, y, "max_pool " + shown_geometry(g));
}

void check_average(Rng& rng, const PoolGeometry& g, bool include_pad, int64_t divisor) {
  const AvgQuant q = random_quant(rng);
  const Bytes x = random_bytes(rng, in_elements(g));
  Bytes y(out_elements(g));
  for_each_output(g, [&](int64_t n, const int64_t (&o)[3], int64_t c, size_t i) {
    const Taps taps = sliding_taps(g, x, n, o, c);
    const int64_t inside = std::max<int64_t>(1, static_cast<int64_t>(taps.codes.size()));
    y[i] = average(taps, q, divisor > 0 ? divisor : (include_pad ? taps.padded : inside));
  });
  check_on_every_isa([&](Isa isa) { return plan_avg_pool(g, q, include_pad, divisor, isa); }, {x}, y,
                     "avg_pool " + shown_geometry(g));
}

}  // namespace

TEST(pool_max_3x3_stride_2) {
  Rng rng(20);
  for (int64_t c : {1, 24, 64, 65, 256, 300}) check_max(rng, square(2, c, 11, 3, 2, 1));
}

TEST(pool_max_random) {
  Rng rng(21);
  for (int i = 0; i < 150; ++i) check_max(rng, random_geometry(rng, true));
}

TEST(pool_average_random) {
  Rng rng(22);
  for (int i = 0; i < 150; ++i)
    check_average(rng, random_geometry(rng, false), rng.integer(0, 1) != 0,
                  rng.integer(0, 2) == 0 ? rng.integer(1, 9) : 0);
}

TEST(pool_average_of_more_taps_than_16_bits_hold) {
  Rng rng(23);
  for (int64_t kernel : {16, 17, 23}) check_average(rng, square(1, 70, 25, kernel, 1, 0), true, 0);
}

TEST(pool_adaptive_random) {
  Rng rng(24);
  for (int i = 0; i < 100; ++i) {
    PoolGeometry g;
    g.n = rng.integer(0, 2);
    g.channels = random_channels(rng);
    for (int64_t d = 3 - rng.integer(1, 3); d < 3; ++d) {
      g.in[d] = rng.integer(1, 8);
      g.out[d] = rng.integer(1, 9);
    }
    const AvgQuant q = random_quant(rng);
    const Bytes x = random_bytes(rng, in_elements(g));
    Bytes largest(out_elements(g)), mean(largest.size());
    for_each_output(g, [&](int64_t n, const int64_t (&o)[3], int64_t c, size_t j) {
      const Taps taps = adaptive_taps(g, x, n, o, c);
      largest[j] = most(taps);
      mean[j] = average(taps, q, static_cast<int64_t>(taps.codes.size()));
    });
    check_on_every_isa([&](Isa isa) { return plan_adaptive_max_pool(g, isa); }, {x}, largest, "adaptive max");
    check_on_every_isa([&](Isa isa) { return plan_adaptive_avg_pool(g, q, isa); }, {x}, mean, "adaptive avg");
  }
}

namespace {

void check_mean(int64_t outer, int64_t reduced, int64_t inner, const AvgQuant& q, const Bytes& x) {
  Bytes y;
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t i = 0; i < inner; ++i) {
      int64_t sum = 0;
      for (int64_t r = 0; r < reduced; ++r)
        sum += x[static_cast<size_t>((o * reduced + r) * inner + i)] - q.x_zero_point;
      y.push_back(requantize(static_cast<float>(sum) * static_cast<float>(q.ratio / static_cast<double>(reduced)),
                             q.zero_point, 0, 255));
    }
  check_on_every_isa([&](Isa isa) { return plan_mean(outer, reduced, inner, q, isa); }, {x}, y,
                     "mean " + shown_dims({outer, reduced, inner}));
}

void check_mean(Rng& rng, int64_t outer, int64_t reduced, int64_t inner) {
  check_mean(outer, reduced, inner, random_quant(rng), random_bytes(rng, outer * reduced * inner));
}

}  // namespace

TEST(pool_mean_over_pixels_and_over_rows) {
  Rng rng(25);
  for (int64_t c : {1, 3, 16, 31, 64, 100, 129, 1280})
    for (int64_t pixels : {1, 7, 49, 64, 255, 256, 257, 513}) check_mean(rng, 2, pixels, c);
  for (int64_t n = 1; n < 140; ++n) check_mean(rng, 3, n, 1);
  check_mean(rng, 0, 4, 5);
  check_mean(rng, 4, 5, 0);
}

TEST(pool_mean_of_the_largest_codes_over_large_extents) {
  const AvgQuant q{1.0, 1, 1};
  for (const auto& [reduced, inner] :
       std::vector<std::pair<int64_t, int64_t>>{{300, 70}, {513, 70}, {70000, 5}, {1 << 20, 1}, {(1 << 23) + 5, 2}})
    check_mean(1, reduced, inner, q, Bytes(static_cast<size_t>(reduced * inner), 255));
}

TEST(pool_rejects_bad_geometry) {
  PoolGeometry g = square(1, 8, 4, 2, 2, 0);
  AvgQuant q;
  g.stride[1] = 0;
  CHECK_THROWS(std::invalid_argument, plan_max_pool(g, Isa::scalar));
  g = square(1, 8, 4, 2, 2, 0);
  g.channels = -1;
  CHECK_THROWS(std::invalid_argument, plan_max_pool(g, Isa::scalar));
  g = square(1, 8, 4, 2, 2, 0);
  q.zero_point = 300;
  CHECK_THROWS(std::invalid_argument, plan_avg_pool(g, q, true, 0, Isa::scalar));
  q = {};
  q.ratio = NAN;
  CHECK_THROWS(std::invalid_argument, plan_mean(1, 2, 3, q, Isa::scalar));
  g.in[1] = 0;
  q = {};
  CHECK_THROWS(std::invalid_argument, plan_adaptive_avg_pool(g, q, Isa::scalar));
}

namespace {

PoolGeometry pool_like(const InterpolateGeometry& g) {
  PoolGeometry p;
  p.n = g.n;
  p.channels = g.channels;
  std::copy(g.in, g.in + 3, p.in);
  std::copy(g.out, g.out + 3, p.out);
  return p;
}

struct Neighbours {
  int64_t index[2];
  double t;
};

// The formula of interpolate.cc, written out once more.
Neighbours neighbours(const InterpolateGeometry& g, int d, int64_t i) {
  double s = g.align_corners ? static_cast<double>(i) * g.scale[d] : (static_cast<double>(i) + 0.5) * g.scale[d] - 0.5;
  if (s < 0) s = 0;
  const int64_t low = std::min(static_cast<int64_t>(s), g.in[d] - 1);
  return {{low, std::min(low + 1, g.in[d] - 1)}, std::min(std::max(s - static_cast<double>(low), 0.0), 1.0)};
}

uint8_t linear_reference(const InterpolateGeometry& g, const PoolGeometry& p, const Bytes& x, int32_t zero_point,
                         int64_t n, const int64_t (&o)[3], int64_t c) {
  const Neighbours w[3] = {neighbours(g, 0, o[0]), neighbours(g, 1, o[1]), neighbours(g, 2, o[2])};
  double value[2][2][2];
  for (int i = 0; i < 8; ++i) {
    const int64_t index[3] = {w[0].index[i >> 2], w[1].index[i >> 1 & 1], w[2].index[i & 1]};
    value[i >> 2][i >> 1 & 1][i & 1] =
        static_cast<double>(x[static_cast<size_t>(at(p, g.in, n, index, c))] - zero_point);
  }
  double plane[2];
  for (int d = 0; d < 2; ++d) {
    double row[2];
    for (int h = 0; h < 2; ++h) row[h] = value[d][h][0] * (1.0 - w[2].t) + value[d][h][1] * w[2].t;
    plane[d] = row[0] * (1.0 - w[1].t) + row[1] * w[1].t;
  }
  const double v = std::nearbyint(plane[0] * (1.0 - w[0].t) + plane[1] * w[0].t) + zero_point;
  return static_cast<uint8_t>(std::min(std::max(v, 0.0), 255.0));
}

InterpolateGeometry random_interpolation(Rng& rng) {
  InterpolateGeometry g;
  g.n = rng.integer(0, 2);
  g.channels = random_channels(rng);
  g.align_corners = rng.integer(0, 1) != 0;
  const bool twice = rng.integer(0, 1) != 0;
  for (int64_t d = 3 - rng.integer(1, 3); d < 3; ++d) {
    g.in[d] = rng.integer(1, 7);
    g.out[d] = twice ? 2 * g.in[d] : rng.integer(1, 9);
    const double in = static_cast<double>(g.in[d]), out = static_cast<double>(g.out[d]);
    g.scale[d] = g.align_corners ? (g.out[d] > 1 ? (in - 1) / (out - 1) : 0.0) : in / out;
  }
  return g;
}

}  // namespace

TEST(interpolate_linear_random) {
  Rng rng(27);
  for (int i = 0; i < 150; ++i) {
    InterpolateGeometry g = random_interpolation(rng);
    g.linear = true;
    const PoolGeometry p = pool_like(g);
    const int32_t zero_point = static_cast<int32_t>(rng.integer(0, 255));
    const Bytes x = random_bytes(rng, in_elements(p));
    Bytes y(out_elements(p));
    for_each_output(p, [&](int64_t n, const int64_t (&o)[3], int64_t c, size_t j) {
      y[j] = linear_reference(g, p, x, zero_point, n, o, c);
    });
    check_on_every_isa([&](Isa isa) { return plan_interpolate(g, zero_point, isa); }, {x}, y,
                       "linear " + shown_geometry(p));
  }
}

// Weights of 10 bits an axis: float32 would round products, and some sums lie within that of a tie.
TEST(interpolate_linear_with_fine_weights) {
  InterpolateGeometry g;
  g.n = g.channels = 1;
  g.linear = g.align_corners = true;
  g.in[1] = g.in[2] = 2;
  g.out[1] = 1025;
  g.out[2] = 513;
  g.scale[1] = 1.0 / 1024;
  g.scale[2] = 1.0 / 512;
  const PoolGeometry p = pool_like(g);
  const Bytes x{3, 250, 201, 7};
  Bytes y(out_elements(p));
  for_each_output(p, [&](int64_t n, const int64_t (&o)[3], int64_t c, size_t j) {
    y[j] = linear_reference(g, p, x, 101, n, o, c);
  });
  check_on_every_isa([&](Isa isa) { return plan_interpolate(g, 101, isa); }, {x}, y, "fine weights");
}

TEST(interpolate_nearest_random) {
  Rng rng(28);
  for (int i = 0; i < 100; ++i) {
    const InterpolateGeometry g = random_interpolation(rng);
    const PoolGeometry p = pool_like(g);
    const Bytes x = random_bytes(rng, in_elements(p));
    Bytes y(out_elements(p));
    for_each_output(p, [&](int64_t n, const int64_t (&o)[3], int64_t c, size_t j) {
      int64_t index[3];
      for (int d = 0; d < 3; ++d)
        index[d] = std::min(static_cast<int64_t>(std::floor(static_cast<float>(o[d]) * static_cast<float>(g.scale[d]))),
                            g.in[d] - 1);
      y[j] = x[static_cast<size_t>(at(p, g.in, n, index, c))];
    });
    check_on_every_isa([&](Isa isa) { return plan_interpolate(g, 0, isa); }, {x}, y, "nearest " + shown_geometry(p));
  }
}

TEST(interpolate_rejects_bad_geometry) {
  InterpolateGeometry g;
  g.n = 1;
  g.channels = 1;
  g.in[2] = 0;
  CHECK_THROWS(std::invalid_argument, plan_interpolate(g, 0, Isa::scalar));
  g.in[2] = 1;
  g.scale[1] = NAN;
  CHECK_THROWS(std::invalid_argument, plan_interpolate(g, 0, Isa::scalar));
}

namespace {

// Whole numbers: their sums are exact in float64, whatever the order.
std::vector<float> as_floats(const Bytes& codes) {
  std::vector<float> x;
  for (const uint8_t code : codes) x.push_back(static_cast<float>(code) - 100.0f);
  return x;
}

float most_f32(const Taps& taps) {
  return taps.codes.empty() ? -INFINITY : static_cast<float>(most(taps)) - 100.0f;
}

float average_f32(const Taps& taps, int64_t count) {
  double sum = 0;
  for (const uint8_t code : taps.codes) sum += code - 100.0;
  return static_cast<float>(sum / static_cast<double>(std::max<int64_t>(taps.codes.empty() ? 1 : count, 1)));
}

template <class Reference>
void check_pool_f32(const PoolGeometry& g, Rng& rng, const Plan& plan, const std::string& what, Reference&& reference) {
  const Bytes x = random_bytes(rng, in_elements(g));
  std::vector<float> y(static_cast<size_t>(out_elements(g)));
  for_each_output(g, [&](int64_t n, const int64_t (&o)[3], int64_t c, size_t j) { y[j] = reference(x, n, o, c); });
  check_on_every_isa(plan, {bytes_of(as_floats(x))}, y, what + " " + shown_geometry(g));
}

}  // namespace

TEST(pool_f32_random) {
  Rng rng(31);
  for (int i = 0; i < 60; ++i) {
    PoolGeometry g = random_geometry(rng, true);
    check_pool_f32(
        g, rng, [&](Isa) { return plan_max_pool_f32(g); }, "max_f32",
        [&](const Bytes& x, int64_t n, const int64_t (&o)[3], int64_t c) {
          return most_f32(sliding_taps(g, x, n, o, c));
        });
    g = random_geometry(rng, false);
    const bool include = rng.integer(0, 1) == 1;
    const int64_t divisor = rng.pick<int64_t>({0, 0, 3});
    check_pool_f32(
        g, rng, [&](Isa) { return plan_avg_pool_f32(g, include, divisor); }, "average_f32",
        [&](const Bytes& x, int64_t n, const int64_t (&o)[3], int64_t c) {
          const Taps taps = sliding_taps(g, x, n, o, c);
          const auto inside = static_cast<int64_t>(taps.codes.size());
          return average_f32(taps, divisor > 0 ? divisor : (include ? taps.padded : inside));
        });
  }
}

TEST(pool_f32_adaptive_random) {
  Rng rng(32);
  for (int i = 0; i < 40; ++i) {
    PoolGeometry g = random_geometry(rng, false);
    for (int d = 0; d < 3; ++d) g.out[d] = rng.integer(1, 5);
    check_pool_f32(
        g, rng, [&](Isa) { return plan_adaptive_max_pool_f32(g); }, "adaptive max_f32",
        [&](const Bytes& x, int64_t n, const int64_t (&o)[3], int64_t c) {
          return most_f32(adaptive_taps(g, x, n, o, c));
        });
    check_pool_f32(
        g, rng, [&](Isa) { return plan_adaptive_avg_pool_f32(g); }, "adaptive average_f32",
        [&](const Bytes& x, int64_t n, const int64_t (&o)[3], int64_t c) {
          const Taps taps = adaptive_taps(g, x, n, o, c);
          return average_f32(taps, static_cast<int64_t>(taps.codes.size()));
        });
  }
}

TEST(pool_f32_reductions) {
  Rng rng(33);
  for (const Dims& shape : {Dims{3, 7, 1}, Dims{2, 5, 130}, Dims{0, 3, 4}, Dims{1, 1000, 64}, Dims{4, 1, 65}}) {
    const Bytes codes = random_bytes(rng, shape[0] * shape[1] * shape[2]);
    const auto x = as_floats(codes);
    for (const Reduction reduction : {Reduction::mean, Reduction::sum, Reduction::max}) {
      std::vector<float> y;
      for (int64_t o = 0; o < shape[0]; ++o)
        for (int64_t c = 0; c < shape[2]; ++c) {
          double sum = 0, greatest = -INFINITY;
          for (int64_t k = 0; k < shape[1]; ++k) {
            const auto value = static_cast<double>(x[static_cast<size_t>((o * shape[1] + k) * shape[2] + c)]);
            sum += value;
            greatest = std::max(greatest, value);
          }
          const double mean = sum / static_cast<double>(shape[1]);
          y.push_back(static_cast<float>(reduction == Reduction::mean  ? mean
                                         : reduction == Reduction::sum ? sum
                                                                       : greatest));
        }
      check_on_every_isa([&](Isa) { return plan_reduce_f32(reduction, shape[0], shape[1], shape[2]); }, {bytes_of(x)},
                         y, "reduce_f32 " + shown_dims(shape));
    }
  }
  CHECK_THROWS(std::invalid_argument, plan_reduce_f32(Reduction::sum, 1, -1, 1));
}

TEST(interpolate_f32_random) {
  Rng rng(34);
  for (int i = 0; i < 60; ++i) {
    InterpolateGeometry g = random_interpolation(rng);
    g.linear = i % 2 == 0;
    const PoolGeometry p = pool_like(g);
    const auto x = as_floats(random_bytes(rng, in_elements(p)));
    std::vector<float> y(static_cast<size_t>(out_elements(p)));
    run(*plan_interpolate_f32(g), {x.data()}, {y.data()}, 1);
    check_on_every_isa([&](Isa) { return plan_interpolate_f32(g); }, {bytes_of(x)}, y,
                       "interpolate_f32 " + shown_geometry(p));
  }
}
