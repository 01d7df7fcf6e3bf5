#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "conv/conv.h"
#include "conv/depthwise.h"
#include "conv/implicit_gemm.h"
#include "conv/problem.h"
#include "gemm/costs.h"
#include "harness.h"
#include "kernel_check.h"
#include "kernel_models.h"
#include "tile_model.h"

using namespace qfx;
using test::GuardedBuffer;
using test::Rng;
using test::RunsOn;

namespace {

enum class Values { random, extreme, normal };  // normal: as quantized weights are spread, and activations 0 or 255

struct Sample {
  ConvGeometry geometry;
  ConvQuant quant;
  ConvShape shape;
  bool weight_zero_points = false;
  bool lut = false;
  Values values = Values::random;
};

struct Operands {
  std::vector<int8_t> weight;
  std::vector<int32_t> weight_zero_point;
  std::vector<int32_t> bias;
  std::vector<float> multiplier;
  std::vector<uint8_t> lut;
  std::unique_ptr<GuardedBuffer> x;
  std::unique_ptr<GuardedBuffer> residual;

  ConvConstants constants() const { return {weight, weight_zero_point, bias, multiplier, lut}; }
};

int64_t count(const int64_t (&extent)[3]) {
  return extent[0] * extent[1] * extent[2];
}

int64_t pixels(const ConvShape& shape, const int64_t (&extent)[3]) {
  return shape.n * count(extent);
}

// Sets the output extents and the pixel strides that are still zero.
void complete(Sample& s) {
  ConvShape& shape = s.shape;
  const ConvGeometry& g = s.geometry;
  for (int d = 0; d < 3; ++d) {
    const int64_t room = shape.in[d] + g.pad_lo[d] + g.pad_hi[d] - (g.kernel[d] - 1) * g.dilation[d] - 1;
    shape.out[d] = room < 0 ? 0 : room / g.stride[d] + 1;
  }
  if (shape.x_pixel_stride == 0) shape.x_pixel_stride = g.c_in;
  if (shape.y_pixel_stride == 0) shape.y_pixel_stride = g.c_out;
}

template <class T>
std::vector<T> integers(Rng& rng, int64_t n, int64_t lo, int64_t hi) {
  std::vector<T> values(static_cast<size_t>(n));
  for (T& v : values) v = static_cast<T>(rng.integer(lo, hi));
  return values;
}

Operands make_operands(const Sample& s, Rng& rng) {
  const ConvGeometry& g = s.geometry;
  const int64_t reduction = count(g.kernel) * (g.c_in / g.groups);
  const bool extreme = s.values == Values::extreme;
  Operands o;
  o.weight = integers<int8_t>(rng, g.c_out * reduction, -128, extreme ? -128 : 127);
  if (s.values == Values::normal) {
    for (int8_t& w : o.weight) w = static_cast<int8_t>((w + rng.integer(-128, 127) + rng.integer(-128, 127)) / 3);
  }
  if (s.weight_zero_points) o.weight_zero_point = integers<int32_t>(rng, g.c_out, extreme ? 127 : -128, 127);
  o.bias = integers<int32_t>(rng, g.c_out, -(1 << 20), 1 << 20);
  if (extreme) o.bias[0] = std::numeric_limits<int32_t>::max() / 2;
  // Codes then spread over the whole range, with some far outside.
  const double spread = 128.0 / (74.0 * 74.0 * std::sqrt(static_cast<double>(reduction)));
  for (int64_t i = 0; i < g.c_out; ++i) o.multiplier.push_back(static_cast<float>(rng.real(0.3, 2.0) * spread));
  if (s.lut) o.lut = integers<uint8_t>(rng, 256, 0, 255);
  o.x = std::make_unique<GuardedBuffer>(static_cast<size_t>(pixels(s.shape, s.shape.in) * s.shape.x_pixel_stride), 64);
  o.x->fill(rng);
  if (extreme) o.x->fill(uint8_t{255});
  if (s.values == Values::normal) std::for_each_n(o.x->data(), o.x->bytes(), [](uint8_t& x) { x = x < 128 ? 0 : 255; });
  if (s.quant.residual) {
    const int64_t count = pixels(s.shape, s.shape.out) * g.c_out;
    o.residual = std::make_unique<GuardedBuffer>(static_cast<size_t>(s.quant.f32_residual ? 4 * count : count), 64);
    o.residual->fill(rng);
    if (s.quant.f32_residual) {
      const std::vector<float> added = random_floats(rng, count, -200, 200);
      if (count > 0) std::memcpy(o.residual->data(), added.data(), added.size() * sizeof(float));
    }
  }
  return o;
}

// The last pixel ends at its last channel: what lies after it is the guard.
size_t output_bytes(const Sample& s) {
  const int64_t n = pixels(s.shape, s.shape.out);
  const int64_t elements = n == 0 ? 0 : (n - 1) * s.shape.y_pixel_stride + s.geometry.c_out;
  return static_cast<size_t>(elements) * (s.quant.f32_output ? 4 : 1);
}

std::vector<uint8_t> result(const Sample& s, const Operands& o, const PackedConv& packed, int threads) {
  GuardedBuffer y(output_bytes(s));
  y.fill(uint8_t{0x5c});
  const auto work = packed.plan(s.shape);
  std::vector<const void*> in = {o.x->data()};
  if (o.residual != nullptr) in.push_back(o.residual->data());
  test::run(*work, in, {y.data()}, threads);
  if (tile::model().configured()) throw test::Failure("tiles left configured: " + work->describe());
  return {y.data(), y.data() + y.bytes()};
}

std::string text(const Sample& s) {
  const ConvGeometry& g = s.geometry;
  std::string t =
      "groups " + std::to_string(g.groups) + " in " + std::to_string(g.c_in) + " out " + std::to_string(g.c_out);
  for (int d = 0; d < 3; ++d) {
    t += " [k" + std::to_string(g.kernel[d]) + " s" + std::to_string(g.stride[d]) + " d" +
         std::to_string(g.dilation[d]) + " p" + std::to_string(g.pad_lo[d]) + "," + std::to_string(g.pad_hi[d]) + " x" +
         std::to_string(s.shape.in[d]) + "]";
  }
  return t + " n" + std::to_string(s.shape.n) + " xs" + std::to_string(s.shape.x_pixel_stride) + " ys" +
         std::to_string(s.shape.y_pixel_stride) +
         (s.quant.f32_residual ? " f32 residual"
          : s.quant.residual   ? " residual"
                               : "") +
         (s.lut ? " lut" : "") + (s.quant.f32_output ? " f32" : "") + (s.weight_zero_points ? " zw" : "");
}

void check_same(const Sample& s, const std::vector<uint8_t>& expected, const std::vector<uint8_t>& got,
                const std::string& who) {
  const auto at = std::mismatch(expected.begin(), expected.end(), got.begin());
  if (at.first == expected.end()) return;
  const auto index = at.first - expected.begin();
  test::fail(__FILE__, __LINE__,
             who + ": byte " + std::to_string(index) + " is " + std::to_string(*at.second) + ", expected " +
                 std::to_string(*at.first) + "; " + text(s));
}

struct Candidate {
  std::string name;
  std::unique_ptr<PackedConv> packed;
  bool model;
};

// What pack_conv chooses, among models too.
std::unique_ptr<PackedConv> pack_selected(const Sample& s, const Operands& o, Isa isa) {
  if (test::runs_on(isa) == RunsOn::hardware) return pack_conv(s.geometry, s.quant, o.constants(), isa);
  conv::Problem problem = conv::make_problem(s.geometry, s.quant, o.constants());
  if (const auto* kernel = conv::select_depthwise(test::runnable_depthwise_kernels(), problem, isa)) {
    return conv::pack_depthwise(*kernel, std::move(problem));
  }
  const auto kernels = test::runnable_gemm_kernels();
  return conv::pack_implicit_gemm(*gemm::select(kernels, conv::demand_of(problem), isa), std::move(problem), kernels);
}

// Every kernel that applies and that this CPU has, or runs a model of.
std::vector<Candidate> candidates(const Sample& s, const Operands& o) {
  const auto problem = [&] { return conv::make_problem(s.geometry, s.quant, o.constants()); };
  std::vector<Candidate> list;
  const auto add = [&](const std::string& name, Isa isa, std::unique_ptr<PackedConv> packed) {
    const bool model = test::runs_on(isa) == RunsOn::model;
    list.push_back({name + (model ? " (a model)" : ""), std::move(packed), model});
  };
  for (const auto& kernel : test::runnable_gemm_kernels()) {
    if (test::runs_on(kernel.isa) == RunsOn::nowhere) continue;
    add(kernel.name, kernel.isa, conv::pack_implicit_gemm(kernel, problem(), test::runnable_gemm_kernels()));
  }
  for (const auto& kernel : test::runnable_depthwise_kernels()) {
    if (test::runs_on(kernel.isa) == RunsOn::nowhere || !conv::applies(kernel, problem())) continue;
    add(kernel.name, kernel.isa, conv::pack_depthwise(kernel, problem()));
  }
  for (Isa isa : isa_levels()) {
    if (test::runs_on(isa) == RunsOn::nowhere) continue;
    add(std::string("chosen for ") + isa_name(isa), isa, pack_selected(s, o, isa));
  }
  return list;
}

void check_sample(Sample s, Rng& rng) {
  complete(s);
  const Operands o = make_operands(s, rng);
  const auto scalar = conv::pack_scalar(conv::make_problem(s.geometry, s.quant, o.constants()));
  const auto expected = result(s, o, *scalar, 1);
  for (const Candidate& c : candidates(s, o)) {
    // How threads share the work is no matter of the level, and models are slow.
    for (int threads : c.model ? std::vector{2} : std::vector{1, 2, 3}) {
      check_same(s, expected, result(s, o, *c.packed, threads), c.name);
    }
  }
}

void randomize_quant(Sample& s, Rng& rng) {
  s.quant.x_zero_point = static_cast<int32_t>(rng.pick<int64_t>({0, 255, 128, rng.integer(0, 255)}));
  s.quant.zero_point = static_cast<int32_t>(rng.pick<int64_t>({0, rng.integer(0, 255)}));
  if (rng.integer(0, 1) == 1) {
    s.quant.lo = static_cast<int32_t>(rng.integer(0, 128));
    s.quant.hi = static_cast<int32_t>(rng.integer(s.quant.lo, 255));
  }
  s.quant.residual = rng.integer(0, 2) == 0;
  s.quant.residual_zero_point = static_cast<int32_t>(rng.integer(0, 255));
  s.quant.residual_multiplier = static_cast<float>(rng.real(0.1, 3.0));
  s.quant.f32_output = rng.integer(0, 3) == 0;
  s.quant.f32_residual = s.quant.residual && s.quant.f32_output && rng.integer(0, 1) == 1;
  if (rng.integer(0, 1) == 1) {
    s.quant.f32_lo = 0.0f;
    s.quant.f32_hi = 6.0f;
  }
  s.lut = rng.integer(0, 3) == 0;
  s.weight_zero_points = rng.integer(0, 5) == 0;
}

void randomize_strides(Sample& s, Rng& rng) {
  if (rng.integer(0, 4) == 0) s.shape.x_pixel_stride = s.geometry.c_in + rng.integer(0, 40);
  if (rng.integer(0, 4) == 0) s.shape.y_pixel_stride = s.geometry.c_out + rng.integer(0, 40);
}

void randomize_window(Sample& s, Rng& rng, int spatial, int64_t max_kernel, int64_t max_size) {
  for (int d = 3 - spatial; d < 3; ++d) {
    s.geometry.kernel[d] = rng.integer(1, max_kernel);
    s.geometry.stride[d] = rng.integer(1, 3);
    s.geometry.dilation[d] = rng.integer(0, 2) == 0 ? rng.integer(1, 3) : 1;
    s.geometry.pad_lo[d] = rng.integer(0, 2) == 0 ? 0 : rng.integer(0, 3);
    s.geometry.pad_hi[d] = rng.integer(0, 2) == 0 ? s.geometry.pad_lo[d] : rng.integer(0, 3);
    s.shape.in[d] = rng.integer(1, max_size);
  }
}

Sample linear(int64_t rows, int64_t c_in, int64_t c_out) {
  Sample s;
  s.geometry.c_in = c_in;
  s.geometry.c_out = c_out;
  s.shape.n = rows;
  return s;
}

Sample square(int64_t c_in, int64_t c_out, int64_t groups, int64_t kernel, int64_t stride, int64_t size) {
  Sample s = linear(1, c_in, c_out);
  s.geometry.groups = groups;
  for (int d = 1; d < 3; ++d) {
    s.geometry.kernel[d] = kernel;
    s.geometry.stride[d] = stride;
    s.geometry.pad_lo[d] = s.geometry.pad_hi[d] = kernel / 2;
    s.shape.in[d] = size;
  }
  return s;
}

}  // namespace

TEST(conv_linear_at_every_width_around_a_panel) {
  Rng rng(1);
  for (int64_t c_out = 1; c_out <= 130; ++c_out) {
    Sample s = linear(rng.integer(1, 40), rng.integer(1, 70), c_out);
    randomize_quant(s, rng);
    randomize_strides(s, rng);
    check_sample(s, rng);
  }
}

TEST(conv_linear_at_every_number_of_rows) {
  Rng rng(2);
  for (int64_t rows = 0; rows <= 45; ++rows) {
    Sample s = linear(rows, rng.pick<int64_t>({3, 16, 64, 67}), rng.pick<int64_t>({8, 48, 64, 100}));
    randomize_quant(s, rng);
    check_sample(s, rng);
  }
}

TEST(conv_single_rows_of_many_panels) {
  Rng rng(19);
  for (int64_t c_out = 60; c_out <= 700; c_out += rng.integer(1, 40)) {
    Sample s = linear(1, rng.integer(1, 130), c_out);
    if (c_out % 4 == 0) s = square(rng.integer(1, 20), c_out, 1, 3, 1, 3);  // one pixel, of a window
    if (c_out % 4 == 0) s.geometry.pad_lo[1] = s.geometry.pad_hi[1] = s.geometry.pad_lo[2] = s.geometry.pad_hi[2] = 0;
    randomize_quant(s, rng);
    randomize_strides(s, rng);
    check_sample(s, rng);
  }
}

TEST(conv_long_reductions) {
  Rng rng(3);
  for (int64_t c_in : {1023, 2048, 4097}) check_sample(linear(5, c_in, 70), rng);
}

TEST(conv_weights_spread_as_quantized_ones_are) {
  Rng rng(18);
  for (int i = 0; i < 60; ++i) {
    Sample s = linear(rng.integer(1, 40), rng.integer(1, 400), rng.integer(1, 70));
    if (i % 3 == 0) s = square(rng.integer(1, 60), rng.integer(1, 40), 1, 3, 1, rng.integer(1, 9));
    s.values = Values::normal;
    randomize_quant(s, rng);
    randomize_strides(s, rng);
    check_sample(s, rng);
  }
}

TEST(conv_random_windows) {
  Rng rng(4);
  for (int i = 0; i < 400; ++i) {
    Sample s = linear(rng.integer(1, 3), rng.integer(1, 40), rng.integer(1, 80));
    randomize_window(s, rng, static_cast<int>(rng.integer(1, 3)), 4, 12);
    randomize_quant(s, rng);
    randomize_strides(s, rng);
    check_sample(s, rng);
  }
}

TEST(conv_images_larger_than_a_block) {
  Rng rng(5);
  check_sample(square(64, 40, 1, 3, 1, 60), rng);
  check_sample(square(96, 16, 1, 1, 1, 60), rng);
  check_sample(square(130, 16, 1, 3, 2, 61), rng);
  Sample batch = square(20, 24, 1, 3, 1, 7);  // and many images in one
  batch.shape.n = 40;
  check_sample(batch, rng);
  Sample line = linear(1, 40, 24);
  line.geometry.kernel[2] = 5;
  line.geometry.dilation[2] = 2;
  line.geometry.pad_lo[2] = 8;
  line.shape.in[2] = 9001;
  check_sample(line, rng);
}

TEST(conv_first_layers) {
  Rng rng(6);
  for (int64_t c_in : {1, 2, 3, 4}) {
    check_sample(square(c_in, 32, 1, 3, 2, 33), rng);
    check_sample(square(c_in, 64, 1, 7, 2, 40), rng);
  }
}

TEST(conv_groups) {
  Rng rng(7);
  for (int i = 0; i < 200; ++i) {
    const int64_t groups = rng.integer(1, 12);
    Sample s = linear(rng.integer(1, 2), groups * rng.pick<int64_t>({1, 2, 4, 8, 16, 24, rng.integer(1, 40)}),
                      groups * rng.pick<int64_t>({1, 2, 4, 8, 16, 24, rng.integer(1, 40)}));
    s.geometry.groups = groups;
    randomize_window(s, rng, 2, 3, 9);
    randomize_quant(s, rng);
    randomize_strides(s, rng);
    check_sample(s, rng);
  }
}

TEST(conv_depthwise_at_every_number_of_channels) {
  Rng rng(8);
  for (int64_t channels = 1; channels <= 100; ++channels) {
    Sample s =
        square(channels, channels, channels, rng.pick<int64_t>({3, 5, 7}), rng.integer(1, 2), rng.integer(1, 20));
    randomize_quant(s, rng);
    randomize_strides(s, rng);
    check_sample(s, rng);
  }
}

TEST(conv_depthwise_random_windows) {
  Rng rng(9);
  for (int i = 0; i < 400; ++i) {
    const int64_t channels = rng.pick<int64_t>({1, 3, 8, 16, 17, 32, 48, 64, 144, rng.integer(1, 200)});
    Sample s = linear(rng.integer(1, 3), channels, channels);
    s.geometry.groups = channels;
    randomize_window(s, rng, static_cast<int>(rng.integer(1, 3)), 7, 14);
    randomize_quant(s, rng);
    randomize_strides(s, rng);
    check_sample(s, rng);
  }
}

TEST(conv_depthwise_windows_that_slide) {
  Rng rng(18);
  for (int64_t window : {3, 5, 7}) {
    for (int64_t channels : {8, 16, 24, 31, 32, 33, 48, 63, 64, 65, 100, 130, 200}) {
      for (int64_t stride : {1, 2}) {
        for (int64_t size : {1, 2, 3, 4, 5, 8, 13}) {
          Sample s = square(channels, channels, channels, window, stride, size);
          s.geometry.pad_lo[2] = rng.integer(0, window);
          s.geometry.pad_hi[2] = rng.integer(0, window);
          s.shape.in[1] = rng.integer(1, 9);
          randomize_quant(s, rng);
          s.quant.residual = s.quant.f32_output = s.quant.f32_residual = false;
          randomize_strides(s, rng);
          check_sample(s, rng);
        }
      }
    }
    for (int64_t stride : {1, 2}) {  // wider than a block
      Sample s = square(150, 150, 150, window, stride, 5);
      s.shape.in[2] = 300;
      check_sample(s, rng);
    }
  }
}

TEST(conv_tables_where_bytes_cannot_be_permuted) {
  Rng rng(19);
  for (Sample s : {linear(9, 30, 100), linear(5, 20, 16), square(48, 48, 48, 3, 1, 9), square(64, 64, 64, 5, 1, 7)}) {
    complete(s);
    s.lut = true;
    const Operands o = make_operands(s, rng);
    const auto problem = [&] {
      conv::Problem p = conv::make_problem(s.geometry, s.quant, o.constants());
      p.byte_permutes = false;
      return p;
    };
    const auto expected = result(s, o, *conv::pack_scalar(problem()), 1);
    for (const auto& kernel : gemm::kernels()) {
      if (!supported(kernel.isa)) continue;
      check_same(s, expected, result(s, o, *conv::pack_implicit_gemm(kernel, problem()), 2), kernel.name);
    }
    for (const auto& kernel : conv::depthwise_kernels()) {
      if (!supported(kernel.isa) || !conv::applies(kernel, problem())) continue;
      check_same(s, expected, result(s, o, *conv::pack_depthwise(kernel, problem()), 2), kernel.name);
    }
  }
}

TEST(conv_channel_affine) {
  Rng rng(10);
  for (int64_t channels = 1; channels <= 140; channels += channels < 20 ? 1 : 7) {
    Sample s = square(channels, channels, channels, 1, 1, rng.integer(1, 9));
    randomize_quant(s, rng);
    randomize_strides(s, rng);
    check_sample(s, rng);
  }
}

TEST(conv_extreme_values) {
  Rng rng(11);
  for (const int64_t zero_point : {0, 255}) {
    for (const bool weight_zero_points : {false, true}) {
      for (Sample s :
           {linear(9, 300, 70), square(32, 32, 1, 3, 1, 9), square(40, 40, 40, 5, 1, 9), square(40, 40, 40, 3, 2, 9),
            square(90, 90, 90, 7, 2, 9), square(48, 48, 6, 3, 1, 9), square(20, 20, 20, 1, 1, 3)}) {
        s.quant.x_zero_point = static_cast<int32_t>(zero_point);
        s.weight_zero_points = weight_zero_points;
        s.values = Values::extreme;
        check_sample(s, rng);
      }
    }
  }
}

TEST(conv_multipliers_beyond_every_code) {
  Rng rng(12);
  for (Sample s : {linear(9, 30, 70), square(40, 40, 40, 3, 1, 9)}) {
    complete(s);
    Operands o = make_operands(s, rng);
    for (size_t i = 0; i < o.multiplier.size(); ++i) o.multiplier[i] = i % 2 == 0 ? 1e30f : 3e4f;
    const auto scalar = conv::pack_scalar(conv::make_problem(s.geometry, s.quant, o.constants()));
    const auto expected = result(s, o, *scalar, 1);
    for (const Candidate& c : candidates(s, o)) check_same(s, expected, result(s, o, *c.packed, 2), c.name);
  }
}

TEST(conv_rejects_inconsistent_sizes) {
  Rng rng(13);
  Sample s = linear(2, 8, 8);
  complete(s);
  const Operands o = make_operands(s, rng);
  const auto with = [&](auto change) {
    ConvGeometry g = s.geometry;
    ConvQuant q = s.quant;
    ConvConstants c = o.constants();
    change(g, q, c);
    return pack_conv(g, q, c, detect_isa());
  };
  CHECK_THROWS(std::invalid_argument, with([](auto& g, auto&, auto&) { g.c_in = 9; }));
  CHECK_THROWS(std::invalid_argument, with([](auto& g, auto&, auto&) { g.groups = 3; }));
  CHECK_THROWS(std::invalid_argument, with([](auto& g, auto&, auto&) { g.stride[2] = 0; }));
  CHECK_THROWS(std::invalid_argument, with([](auto& g, auto&, auto&) { g.pad_lo[1] = -1; }));
  CHECK_THROWS(std::invalid_argument, with([](auto&, auto& q, auto&) { q.lo = 9, q.hi = 8; }));
  CHECK_THROWS(std::invalid_argument, with([](auto&, auto& q, auto&) { q.x_zero_point = 256; }));
  CHECK_THROWS(std::invalid_argument, with([](auto&, auto&, auto& c) { c.bias = c.bias.first(7); }));
  CHECK_THROWS(std::invalid_argument, with([](auto&, auto&, auto& c) { c.multiplier = c.multiplier.first(1); }));
}

TEST(conv_rejects_a_sum_that_could_wrap) {
  const int64_t length = 1 << 17;  // * 128 * 255 > 2^31
  const std::vector<int8_t> weight(static_cast<size_t>(length), -128);
  const std::vector<int32_t> bias = {0};
  const std::vector<float> multiplier = {1.0f};
  const ConvConstants constants{weight, {}, bias, multiplier, {}};
  ConvGeometry g;
  g.c_in = length;
  g.c_out = 1;
  CHECK_THROWS(std::invalid_argument, pack_conv(g, {}, constants, detect_isa()));
}

TEST(conv_rejects_a_shape_of_another_geometry) {
  Rng rng(14);
  Sample s = square(8, 8, 1, 3, 2, 9);
  complete(s);
  const Operands o = make_operands(s, rng);
  for (Isa isa : test::isas()) {
    const auto packed = pack_conv(s.geometry, s.quant, o.constants(), isa);
    ConvShape wrong = s.shape;
    wrong.out[2] += 1;
    CHECK_THROWS(std::invalid_argument, packed->plan(wrong));
    wrong = s.shape;
    wrong.x_pixel_stride = 7;
    CHECK_THROWS(std::invalid_argument, packed->plan(wrong));
  }
}

TEST(conv_selection_takes_tiles_where_they_win) {
  Rng rng(15);
  const auto selected = [&](Sample s, Isa isa) {
    complete(s);
    const Operands o = make_operands(s, rng);
    const auto problem = conv::make_problem(s.geometry, s.quant, o.constants());
    const auto* kernel = gemm::select(gemm::kernels(), conv::demand_of(problem), isa);
    return kernel == nullptr ? Isa::scalar : kernel->isa;
  };
  CHECK_EQ(selected(linear(9, 64, 64), Isa::scalar), Isa::scalar);
#if defined(__x86_64__)
  CHECK_EQ(selected(linear(9, 64, 64), Isa::avx2), Isa::avx2);
  CHECK_EQ(selected(linear(9, 64, 64), Isa::avxvnni), Isa::avxvnni);
  CHECK_EQ(selected(linear(9, 2048, 512), Isa::avx512vnni), Isa::avx512vnni);
  CHECK_EQ(selected(linear(9, 2048, 512), Isa::amx), Isa::amx);
  CHECK_EQ(selected(square(64, 64, 1, 3, 1, 9), Isa::amx), Isa::amx);
  CHECK_EQ(selected(linear(9, 16, 96), Isa::amx), Isa::avx512vnni);
  CHECK_EQ(selected(square(3, 64, 1, 3, 2, 9), Isa::amx), Isa::avx512vnni);  // mostly the zeros that fill up steps
  CHECK_EQ(selected(square(64, 64, 16, 3, 1, 9), Isa::amx), Isa::avx512vnni);
#endif
}

TEST(conv_selection_pairs_steps_of_all_but_short_reductions) {
#if defined(__x86_64__)
  Rng rng(20);
  for (const auto& [c_in, packing] : {std::pair(16, gemm::Packing::steps), std::pair(32, gemm::Packing::steps),
                                      std::pair(96, gemm::Packing::paired), std::pair(576, gemm::Packing::paired)}) {
    Sample s = linear(9, c_in, 96);
    complete(s);
    const Operands o = make_operands(s, rng);
    const auto problem = conv::make_problem(s.geometry, s.quant, o.constants());
    CHECK(gemm::select(gemm::kernels(), conv::demand_of(problem), Isa::avx2)->packing == packing);
  }
#endif
}

TEST(conv_costs_cover_every_kernel) {
  for (const auto& kernel : gemm::kernels()) {
    const gemm::Costs& costs = gemm::costs_of(kernel.isa);
    CHECK(includes(kernel.isa, costs.level));
    const auto vectors = (kernel.columns + costs.vector.lanes - 1) / costs.vector.lanes;
    CHECK(vectors < static_cast<int>(std::size(costs.vector.finish)) && costs.vector.finish[vectors] > 0);
    const bool pairs = 2 * kernel.columns == 3 * costs.vector.lanes;
    CHECK(!pairs || costs.vector.pair_step > 0);
  }
}

TEST(conv_selection_fits_panels_to_the_columns) {
#if defined(__x86_64__)
  Rng rng(16);
  for (const auto& [columns, width] : {std::pair(8, 8), std::pair(16, 16), std::pair(24, 24), std::pair(32, 16)}) {
    Sample s = linear(9, 96, columns);
    complete(s);
    const Operands o = make_operands(s, rng);
    const auto problem = conv::make_problem(s.geometry, s.quant, o.constants());
    CHECK_EQ(gemm::select(gemm::kernels(), conv::demand_of(problem), Isa::avxvnni)->columns, width);
  }
#endif
}

TEST(conv_selection_takes_an_affine_kernel_before_a_depthwise_one_of_any_level) {
  Rng rng(17);
  for (const Isa isa : isa_levels()) {
    if (isa == Isa::scalar) continue;
    Sample s = square(40, 40, 40, 1, 1, 5);
    complete(s);
    const Operands o = make_operands(s, rng);
    const auto problem = conv::make_problem(s.geometry, s.quant, o.constants());
    CHECK(conv::select_depthwise(conv::depthwise_kernels(), problem, isa)->affine != nullptr);
  }
}

TEST(conv_models_stand_in_only_for_what_the_hardware_lacks) {
  for (const std::string& name : test::model_kernels()) {
    const bool modeled = name.ends_with("__avxvnni") || name.ends_with("__amx");
    CHECK(modeled);
  }
#if defined(__x86_64__)
  if (!supported(Isa::avx512vnni)) return;
  CHECK_EQ(test::model_kernels().empty(), supported(Isa::avxvnni) && supported(Isa::amx));
#endif
}
