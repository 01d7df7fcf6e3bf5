#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <stdexcept>

#include "core/half.h"
#include "gemm/dynamic.h"
#include "gemm/linear.h"
#include "kernel_check.h"
#include "kernel_models.h"
#include "tile_model.h"

using namespace qfx;
using namespace qfx::test;

namespace {

using Floats = std::vector<float>;

// ---------------------------------------------------------------- int8 weights

struct Layer {
  int64_t rows, features, outputs;
  std::vector<int8_t> weights;
  Floats scale, bias, x;
  std::vector<int32_t> zero_point;
  bool per_row = false;
  Floats residual;
  float lo = -INFINITY, hi = INFINITY;

  Layer(Rng& rng, const Dims& s, double low, double high) : rows(s[0]), features(s[1]), outputs(s[2]) {
    for (int64_t i = 0; i < outputs * features; ++i) {
      weights.push_back(static_cast<int8_t>(rng.pick<int64_t>({-128, 127, rng.integer(-128, 127)})));
    }
    scale = random_floats(rng, outputs, 0.001, 0.1);
    if (rng.integer(0, 1) != 0) bias = random_floats(rng, outputs, -1, 1);
    for (int64_t o = 0; rng.integer(0, 1) != 0 && o < outputs; ++o) {
      zero_point.resize(static_cast<size_t>(outputs));
      zero_point[static_cast<size_t>(o)] = static_cast<int32_t>(rng.pick<int64_t>({-128, 127, rng.integer(-9, 9)}));
    }
    x = random_floats(rng, rows * features, low, high);
  }

  DynamicLinear linear() const {
    return {outputs, features, weights, scale, zero_point, bias, per_row, !residual.empty(), lo, hi};
  }

  // One row of it alone.
  Layer row(int64_t r) const {
    Layer one = *this;
    one.rows = 1;
    one.x.assign(x.begin() + r * features, x.begin() + (r + 1) * features);
    if (!residual.empty()) one.residual.assign(residual.begin() + r * outputs, residual.begin() + (r + 1) * outputs);
    return one;
  }
};

// The formula, in exact and in double arithmetic where it says so.
Floats reference(const Layer& l) {
  if (l.per_row && l.rows != 1) {
    Floats y;
    for (int64_t r = 0; r < l.rows; ++r) {
      const Floats one = reference(l.row(r));
      y.insert(y.end(), one.begin(), one.end());
    }
    return y;
  }
  double low = 0, high = 0;
  for (float value : l.x) low = std::min<double>(low, value), high = std::max<double>(high, value);
  float s = static_cast<float>((high - low) / 255);
  if (s == 0.0f) s = 1.0f;
  const double z = std::min(std::max(std::nearbyint(-low / static_cast<double>(s)), 0.0), 255.0);
  Floats y;
  for (int64_t r = 0; r < l.rows; ++r)
    for (int64_t o = 0; o < l.outputs; ++o) {
      const auto at = static_cast<size_t>(o);
      const int64_t zero_point = l.zero_point.empty() ? 0 : l.zero_point[at];
      int64_t sum = 0;
      for (int64_t i = 0; i < l.features; ++i) {
        const auto value = static_cast<double>(l.x[static_cast<size_t>(r * l.features + i)]);
        const double q = std::nearbyint(value / static_cast<double>(s)) + z;
        sum += static_cast<int64_t>(std::min(std::max(q, 0.0), 255.0) - z) *
               (l.weights[static_cast<size_t>(o * l.features + i)] - zero_point);
      }
      volatile float product = static_cast<float>(sum) * (s * l.scale[at]);
      volatile float value = l.bias.empty() ? product : product + l.bias[at];
      if (!l.residual.empty()) value = value + l.residual[y.size()];
      y.push_back(value < l.lo ? l.lo : (value > l.hi ? l.hi : value));
    }
  return y;
}

// The result from rows that are quantized first, as others may share them.
void check_quantized(const PackedLinear& packed, const Layer& l, const std::vector<Floats>& want,
                     const std::vector<int>& threads, const std::string& what) {
  const auto how = packed.quantized_rows();
  if (!how) return;
  const auto quantize = how->plan(l.rows);
  const auto work = packed.plan_quantized(l.rows);
  for (const int n : threads) {
    GuardedBuffer x(l.x.size() * sizeof(float)), rows(static_cast<size_t>(how->bytes(l.rows)));
    std::memcpy(x.data(), l.x.data(), l.x.size() * sizeof(float));
    rows.fill(0xcd);
    run(*quantize, {x.data()}, {rows.data()}, n);
    const Bytes made(rows.data<uint8_t>(), rows.data<uint8_t>() + how->bytes(l.rows));
    check_work(*work, {made, bytes_of(l.residual)}, want, n, what + ", rows quantized apart");
  }
}

// Every kernel that this CPU has or runs a model of, and what is chosen for each level.
void check_kernels(const Layer& l, const std::string& what) {
  const std::vector<Floats> want{reference(l)};
  const auto check = [&](const PackedLinear& packed, const std::vector<int>& threads) {
    CHECK(packed.packed_bytes() >= l.weights.size());
    const auto work = packed.plan(l.rows);
    for (const int n : threads) check_work(*work, {bytes_of(l.x), bytes_of(l.residual)}, want, n, what);
    if (tile::model().configured()) throw Failure("tiles left configured: " + work->describe());
    check_quantized(packed, l, want, threads, what);
  };
  check(*gemm::pack_linear_dynamic_scalar(l.linear()), {1, 3});
  for (const auto& kernel : runnable_gemm_kernels()) {
    const RunsOn where = runs_on(kernel.isa);
    if (where == RunsOn::nowhere || l.features > gemm::kDynamicFeatures) continue;
    const Isa floats = where == RunsOn::model ? Isa::scalar : kernel.isa;
    check(*gemm::pack_linear_dynamic_gemm(kernel, l.linear(), floats, runnable_gemm_kernels()),
          where == RunsOn::model ? std::vector{2} : std::vector{1, 2, 5});
  }
  for (const Isa isa : isas()) check(*pack_linear_dynamic(l.linear(), isa), {1, 2, 5});
}

void check_layer(Layer l, const std::string& what) {
  for (const bool per_row : {false, true}) {
    l.per_row = per_row;
    check_kernels(l, what + (per_row ? ", a scale a row" : ""));
  }
}

// As it is, with a residual, with a range (which zeros and what is below and above it are held in), and with both.
void check_endings(Layer l, const std::string& what) {
  Rng rng(65);
  check_layer(l, what);
  const Floats residual = random_floats(rng, l.rows * l.outputs, -3, 3);
  for (const bool added : {true, false}) {
    l.residual = added ? residual : Floats();
    if (added) check_layer(l, what + ", with a residual");
    for (const float hi : {1.0f, INFINITY}) {
      l.lo = 0.0f;
      l.hi = hi;
      check_layer(l, what + ", in a range");
    }
    l.lo = -INFINITY;
  }
}

}  // namespace

TEST(linear_dynamic_of_every_tail) {
  Rng rng(66);
  for (const Dims& s : {Dims{1, 1, 1}, Dims{3, 40, 17}, Dims{5, 64, 33}, Dims{2, 31, 130}, Dims{0, 4, 5},
                        Dims{67, 100, 21}, Dims{29, 66, 259}, Dims{1, 130, 1029}, Dims{1, 64, 300}, Dims{2, 1024, 40}})
    for (double high : {0.0, 1.0, 30.0}) {
      check_endings(Layer(rng, s, high == 0.0 ? 0.0 : -2.0, high), "linear_dynamic " + shown_dims(s));
    }
}

TEST(linear_dynamic_in_blocks_of_rows) {
  Rng rng(67);
  check_layer(Layer(rng, {130, 3000, 20}, -1.0, 2.0), "linear_dynamic in blocks");
}

// Whatever its neighbours are: rows whose ranges are far apart.
TEST(linear_dynamic_rows_do_not_depend_on_one_another) {
  constexpr int64_t rows = 7, k = 100, n = 150;
  Rng rng(73);
  Layer l(rng, {rows, k, n}, -1.0, 1.0);
  l.per_row = true;
  for (int64_t i = 0; i < rows * k; ++i) l.x[static_cast<size_t>(i)] *= std::ldexp(1.0f, static_cast<int>(i / k) * 9);
  for (const Isa isa : isas()) {
    const auto packed = pack_linear_dynamic(l.linear(), isa);
    Floats all(static_cast<size_t>(rows * n));
    run(*packed->plan(rows), {l.x.data()}, {all.data()}, 2);
    for (int64_t r = 0; r < rows; ++r) {
      const Floats wanted(all.begin() + r * n, all.begin() + (r + 1) * n);
      check_work(*packed->plan(1), {bytes_of(l.row(r).x)}, std::vector<Floats>{wanted}, 3, "a row alone");
    }
  }
}

TEST(linear_dynamic_of_sums_at_the_ends_of_s32) {
  Rng rng(68);
  for (const int64_t features : {gemm::kDynamicFeatures, gemm::kDynamicFeatures + 1, int64_t{140000}}) {
    Layer l(rng, {1, features, 3}, 0.0, 1.0);
    std::fill(l.x.begin(), l.x.end(), 1.0f);
    std::fill(l.weights.begin(), l.weights.begin() + features, int8_t{127});
    l.zero_point = {-128, 127, 0};
    std::fill(l.weights.begin() + features, l.weights.begin() + 2 * features, int8_t{-128});
    check_layer(l, "linear_dynamic of " + std::to_string(features) + " features");
  }
}

TEST(linear_dynamic_keeps_the_sign_of_zeros_without_a_bias) {
  Rng rng(69);
  Layer l(rng, {2, 4, 20}, 0.0, 0.0);
  l.bias.clear();
  l.zero_point.clear();
  for (size_t o = 0; o < l.scale.size(); o += 2) l.scale[o] = -l.scale[o];  // 0 * a negative scale
  const Floats y = reference(l);
  CHECK(std::signbit(y[0]) && !std::signbit(y[1]));
  check_layer(l, "linear_dynamic of zeros");
}

TEST(linear_dynamic_of_what_is_not_finite_is_nan_and_nothing_else_is) {
  constexpr int64_t rows = 3, k = 45, n = 19;  // whole vectors, and what is left of them
  Rng rng(70);
  Layer l(rng, {rows, k, n}, 0.0, 1.0);
  l.lo = 0.0f;
  l.hi = 1.0f;
  for (const bool per_row : {false, true}) {
    l.per_row = per_row;
    std::vector<std::unique_ptr<PackedLinear>> packed;
    packed.push_back(gemm::pack_linear_dynamic_scalar(l.linear()));
    for (const Isa isa : isas()) packed.push_back(pack_linear_dynamic(l.linear(), isa));
    for (const float value : {NAN, -NAN, INFINITY, -INFINITY})
      for (int64_t at = 0; at < rows * k; ++at) {
        std::fill(l.x.begin(), l.x.end(), 1.0f);
        l.x[static_cast<size_t>(at)] = value;
        for (const auto& layer : packed) {
          Floats y(static_cast<size_t>(rows * n), 0.0f);
          run(*layer->plan(rows), {l.x.data()}, {y.data()}, 2);
          for (int64_t i = 0; i < rows * n; ++i) {
            CHECK(std::isnan(y[static_cast<size_t>(i)]) == (!per_row || i / n == at / k));
          }
          check_quantized(*layer, l, {y}, {2}, "linear_dynamic of what is not finite");
        }
      }
  }
}

TEST(linear_dynamic_refuses_what_does_not_fit) {
  Rng rng(71);
  const Layer l(rng, {1, 2, 3}, 0.0, 1.0);
  const std::vector<int32_t> wide{0, 128, 0};
  DynamicLinear wrong = l.linear();
  wrong.zero_point = wide;
  CHECK_THROWS(std::invalid_argument, pack_linear_dynamic(wrong, Isa::scalar));
  wrong = l.linear();
  wrong.features = 1;
  CHECK_THROWS(std::invalid_argument, pack_linear_dynamic(wrong, Isa::scalar));
  wrong.features = wrong.outputs = 0;
  CHECK_THROWS(std::invalid_argument, pack_linear_dynamic(wrong, Isa::scalar));
}

// ---------------------------------------------------------------- weights that become float32 in registers

namespace {

using Weight = std::function<float(int64_t output, int64_t feature)>;

// Products added in the order of the features, each operation rounded on its own.
Floats in_order(const Dims& s, const Weight& weight, const Floats& x, const Floats& bias) {
  Floats y;
  for (int64_t r = 0; r < s[0]; ++r)
    for (int64_t o = 0; o < s[2]; ++o) {
      float sum = 0.0f;
      for (int64_t i = 0; i < s[1]; ++i) {
        volatile float product = x[static_cast<size_t>(r * s[1] + i)] * weight(o, i);
        sum += product;
      }
      y.push_back(sum + (bias.empty() ? 0.0f : bias[static_cast<size_t>(o)]));
    }
  return y;
}

// On every level, alone and in company: rows do not depend on one another.
void check_in_order(const Dims& s, const Weight& weight, const Floats& x, const Floats& bias,
                    const std::function<std::unique_ptr<PackedLinear>(Isa)>& pack, const std::string& what) {
  std::vector<std::unique_ptr<PackedLinear>> kept;
  const auto plan = [&](Isa isa) {
    kept.push_back(pack(isa));
    return kept.back()->plan(s[0]);
  };
  check_on_every_isa(plan, {bytes_of(x)}, in_order(s, weight, x, bias), what + " " + shown_dims(s));
}

// Weights of 8 or 4 bits in groups; all that a code, a scale and a zero point can be.
struct Grouped {
  Dims shape;  // rows, features, outputs
  int bits;
  int64_t group;
  std::vector<int> codes, zeros;
  Floats scales, bias;
  std::vector<uint16_t> half_scales;
  std::vector<std::byte> packed_codes, packed_zeros;

  Grouped(Rng& rng, Dims s, int width, int64_t features, bool affine, bool half)
      : shape(std::move(s)), bits(width), group(features) {
    const int low = bits == 8 ? -128 : -8, high = bits == 8 ? 127 : 7;
    const auto any = [&] { return static_cast<int>(rng.pick<int64_t>({low, high, rng.integer(low, high)})); };
    for (int64_t i = 0; i < shape[2] * shape[1]; ++i) codes.push_back(any());
    for (int64_t i = 0; i < shape[2] * groups(); ++i) {
      if (affine) zeros.push_back(any());
      half_scales.push_back(static_cast<uint16_t>(rng.pick<int64_t>({0x0001, 0x7bff, rng.integer(0x1400, 0x3400)})));
      scales.push_back(half ? float_of_half(half_scales.back()) : static_cast<float>(rng.real(1e-6, 0.1)));
    }
    if (!half) half_scales.clear();
    if (rng.integer(0, 1) != 0) bias = random_floats(rng, shape[2], -1, 1);
    packed_codes = packed(codes);
    packed_zeros = packed(zeros);
  }

  int64_t groups() const { return shape[1] / group; }

  std::vector<std::byte> packed(const std::vector<int>& from) const {
    std::vector<std::byte> bytes((from.size() * static_cast<size_t>(bits) + 7) / 8);
    for (size_t i = 0; i < from.size(); ++i) {
      const int code = bits == 8 ? from[i] & 255 : (from[i] & 15) << (i % 2 * 4);
      bytes[bits == 8 ? i : i / 2] |= static_cast<std::byte>(code);
    }
    return bytes;
  }

  GroupedLinear linear() const {
    return {shape[2],    shape[1],     group,
            bits,        packed_codes, half_scales.empty() ? std::span<const float>(scales) : std::span<const float>(),
            half_scales, packed_zeros, bias};
  }

  float weight(int64_t o, int64_t i) const {
    const auto g = static_cast<size_t>(o * groups() + i / group);
    const int code = codes[static_cast<size_t>(o * shape[1] + i)];
    return static_cast<float>(code - (zeros.empty() ? 0 : zeros[g])) * scales[g];
  }
};

const std::vector<Dims> kInOrderShapes = {{1, 1, 1},    {3, 40, 17},   {5, 7, 64},   {67, 33, 130},
                                          {0, 4, 5},    {1, 64, 80},   {13, 96, 33}, {9, 5, 48},
                                          {12, 65, 16}, {14, 130, 20}, {11, 64, 20}};

}  // namespace

TEST(linear_half_sums_in_the_order_of_the_features) {
  Rng rng(96);
  for (const Dims& s : kInOrderShapes)
    for (const bool brain : {false, true})
      for (const bool with_bias : {false, true}) {
        std::vector<uint16_t> weights;
        const int64_t low = brain ? 0x3d00 : 0x2c00, high = brain ? 0x3fff : 0x3bff;
        for (int64_t i = 0; i < s[1] * s[2]; ++i) {
          weights.push_back(static_cast<uint16_t>(rng.integer(0, 1) << 15 | rng.integer(low, high)));
        }
        const Floats x = random_floats(rng, s[0] * s[1], -2, 2), bias = random_floats(rng, with_bias ? s[2] : 0, -1, 1);
        const auto weight = [&](int64_t o, int64_t i) {
          const uint16_t bits = weights[static_cast<size_t>(o * s[1] + i)];
          return brain ? float_of_brain(bits) : float_of_half(bits);
        };
        const auto pack = [&](Isa isa) { return pack_linear_half(s[2], s[1], weights, bias, isa, brain); };
        check_in_order(s, weight, x, bias, pack, brain ? "linear_half in bfloat16" : "linear_half");
      }
  CHECK_THROWS(std::invalid_argument, pack_linear_half(2, 3, std::vector<uint16_t>(5), {}, Isa::scalar));
}

TEST(linear_grouped_sums_decoded_weights_in_the_order_of_the_features) {
  Rng rng(97);
  for (const Dims& s : kInOrderShapes)
    for (int64_t group = 1; group <= s[1]; ++group)
      for (const int bits : {8, 4})
        for (const int kind : {0, 1, 2, 3}) {
          if (s[1] % group != 0) continue;
          const Grouped g(rng, s, bits, group, (kind & 1) != 0, (kind & 2) != 0);
          const Floats x = random_floats(rng, s[0] * s[1], -2, 2);
          const auto weight = [&](int64_t o, int64_t i) { return g.weight(o, i); };
          const auto pack = [&](Isa isa) { return pack_linear_grouped(g.linear(), isa); };
          const std::string what = "linear_grouped of " + std::to_string(bits) + " bits by " + std::to_string(group);
          check_in_order(s, weight, x, g.bias, pack, what);
        }
}

// Nothing wider than the codes, a scale and a zero point a group, and the biases; 64 outputs fill panels.
TEST(linear_grouped_keeps_weights_as_narrow_as_they_are) {
  Rng rng(98);
  for (const int bits : {8, 4})
    for (const bool half : {false, true}) {
      const Grouped g(rng, {1, 256, 128}, bits, 32, true, half);
      const size_t codes = 256 * 128 * static_cast<size_t>(bits) / 8, groups = 8 * 128;
      const size_t each = half ? 3 : 5;
      CHECK_EQ(pack_linear_grouped(g.linear(), isas().back())->packed_bytes(), codes + groups * each + 128 * 4);
    }
}

TEST(linear_grouped_refuses_what_does_not_fit) {
  Rng rng(99);
  const Grouped g(rng, {1, 6, 3}, 4, 3, true, false);
  const auto refused = [&](const std::function<void(GroupedLinear&)>& change) {
    GroupedLinear layer = g.linear();
    change(layer);
    CHECK_THROWS(std::invalid_argument, pack_linear_grouped(layer, Isa::scalar));
  };
  refused([](GroupedLinear& l) { l.group = 4; });
  refused([](GroupedLinear& l) { l.group = 0; });
  refused([](GroupedLinear& l) { l.bits = 5; });
  refused([](GroupedLinear& l) { l.bits = 8; });
  refused([](GroupedLinear& l) { l.outputs = 0; });
  refused([](GroupedLinear& l) { l.scale = l.scale.first(5); });
  refused([](GroupedLinear& l) { l.zero_point = l.zero_point.first(2); });
  const Floats bias(2);
  refused([&](GroupedLinear& l) { l.bias = bias; });
}

// ---------------------------------------------------------------- inputs by groups

namespace {

// Weights by groups on rows that are quantized by groups.
struct GroupedInput {
  Grouped weights;
  int64_t x_group;
  Floats x, residual;
  float lo = -INFINITY, hi = INFINITY;

  GroupedInput(Rng& rng, Grouped g, int64_t group) : weights(std::move(g)), x_group(group) {
    x = random_floats(rng, rows() * features(), -2, 2);
    for (int64_t i = 0; i < rows() * features(); ++i) {  // groups that are far apart, and one of zeros
      x[static_cast<size_t>(i)] *= std::ldexp(1.0f, static_cast<int>(i % features() / x_group % 5) * 7 - 14);
      if (i / features() == 1 && i % features() < x_group) x[static_cast<size_t>(i)] = 0.0f;
    }
  }

  int64_t rows() const { return weights.shape[0]; }
  int64_t features() const { return weights.shape[1]; }
  int64_t outputs() const { return weights.shape[2]; }
  DynamicGroupedLinear linear() const { return {weights.linear(), x_group, !residual.empty(), lo, hi}; }

  // The formula, in exact and in double arithmetic where it says so.
  float product(int64_t r, int64_t o, int64_t first) const {
    const int64_t end = std::min(features(), first + x_group);
    const auto value = [&](int64_t i) { return x[static_cast<size_t>(r * features() + i)]; };
    float most = 0.0f;
    for (int64_t i = first; i < end; ++i) most = std::max(most, std::abs(value(i)));
    const float s = most / 127.0f == 0.0f ? 1.0f : most / 127.0f;
    const auto g = static_cast<size_t>(o * weights.groups() + first / weights.group);
    int64_t sum = 0;
    for (int64_t i = first; i < end; ++i) {
      const double q = std::nearbyint(static_cast<double>(value(i)) / static_cast<double>(s));
      const int w =
          weights.codes[static_cast<size_t>(o * features() + i)] - (weights.zeros.empty() ? 0 : weights.zeros[g]);
      sum += static_cast<int64_t>(std::clamp(q, -128.0, 127.0)) * w;
    }
    volatile float scale = s * weights.scales[g];
    return static_cast<float>(sum) * scale;
  }

  Floats reference() const {
    Floats y;
    for (int64_t r = 0; r < rows(); ++r)
      for (int64_t o = 0; o < outputs(); ++o) {
        volatile float sum = product(r, o, 0);
        for (int64_t first = x_group; first < features(); first += x_group) sum = sum + product(r, o, first);
        if (!weights.bias.empty()) sum = sum + weights.bias[static_cast<size_t>(o)];
        if (!residual.empty()) sum = sum + residual[y.size()];
        const float value = sum;
        y.push_back(std::min(std::max(value, lo), hi));
      }
    return y;
  }
};

// Every kernel that this CPU has or runs a model of, and what is chosen for each level.
void check_grouped_input(const GroupedInput& l, const std::string& what) {
  const std::vector<Floats> want{l.reference()};
  const auto check = [&](const PackedLinear& packed, const std::vector<int>& threads) {
    const auto work = packed.plan(l.rows());
    for (const int n : threads) check_work(*work, {bytes_of(l.x), bytes_of(l.residual)}, want, n, what);
    if (tile::model().configured()) throw Failure("tiles left configured: " + work->describe());
  };
  for (const auto& kernel : runnable_gemm_kernels()) {
    const RunsOn where = runs_on(kernel.isa);
    if (where == RunsOn::nowhere) continue;
    const Isa floats = where == RunsOn::model ? Isa::scalar : kernel.isa;
    check(*gemm::pack_linear_dynamic_grouped_gemm(kernel, l.linear(), floats, runnable_gemm_kernels()),
          where == RunsOn::model ? std::vector{2} : std::vector{1, 2, 5});
  }
  for (const Isa isa : isas()) check(*pack_linear_dynamic_grouped(l.linear(), isa), {1, 2, 5});
}

}  // namespace

// Groups of the input that end where those of weights do, inside of them, and with fewer in the last.
TEST(linear_dynamic_grouped_adds_groups_in_order) {
  Rng rng(100);
  struct Sizes {
    Dims shape;
    int64_t group, x_group;
  };
  for (const Sizes& s :
       {Sizes{{1, 1, 1}, 1, 32}, Sizes{{3, 40, 17}, 40, 32}, Sizes{{5, 64, 33}, 32, 32}, Sizes{{2, 128, 130}, 64, 32},
        Sizes{{0, 64, 5}, 64, 32}, Sizes{{67, 100, 21}, 100, 32}, Sizes{{1, 256, 300}, 128, 32},
        Sizes{{29, 96, 259}, 32, 32}, Sizes{{4, 21, 9}, 21, 4}, Sizes{{2, 300, 40}, 300, 128}})
    for (const int bits : {8, 4})
      for (const int kind : {0, 1, 2, 3}) {
        GroupedInput l(rng, {rng, s.shape, bits, s.group, (kind & 1) != 0, (kind & 2) != 0}, s.x_group);
        const std::string what = "linear_dynamic_grouped of " + std::to_string(bits) + " bits by " +
                                 std::to_string(s.group) + " " + shown_dims(s.shape);
        check_grouped_input(l, what);
        l.residual = random_floats(rng, l.rows() * l.outputs(), -3, 3);
        l.lo = 0.0f;
        check_grouped_input(l, what + ", with a residual, in a range");
      }
}

TEST(linear_dynamic_grouped_in_blocks_of_rows) {
  Rng rng(101);
  check_grouped_input({rng, {rng, {130, 1504, 20}, 8, 1504, false, false}, 32}, "linear_dynamic_grouped in blocks");
}

TEST(linear_dynamic_grouped_of_what_is_not_finite_is_nan_in_its_row) {
  constexpr int64_t rows = 3, k = 70, n = 19;
  Rng rng(102);
  GroupedInput l(rng, {rng, {rows, k, n}, 8, k, false, false}, 32);
  l.lo = 0.0f;
  l.hi = 1.0f;
  for (const Isa isa : isas()) {
    const auto packed = pack_linear_dynamic_grouped(l.linear(), isa);
    for (const float value : {NAN, -NAN, INFINITY, -INFINITY})
      for (int64_t at = 0; at < rows * k; ++at) {
        std::fill(l.x.begin(), l.x.end(), 1.0f);
        l.x[static_cast<size_t>(at)] = value;
        Floats y(static_cast<size_t>(rows * n), 0.0f);
        run(*packed->plan(rows), {l.x.data()}, {y.data()}, 2);
        for (int64_t i = 0; i < rows * n; ++i) CHECK(std::isnan(y[static_cast<size_t>(i)]) == (i / n == at / k));
      }
  }
}

TEST(linear_dynamic_grouped_of_the_largest_floats_and_of_denormals) {
  Rng rng(103);
  GroupedInput l(rng, {rng, {6, 64, 9}, 8, 64, false, false}, 32);
  constexpr float ends[] = {3.4e38f, -3.4e38f, 1e-44f, -1.4e-45f, 2e-43f, 1e-38f};
  for (size_t i = 0; i < l.x.size(); ++i) l.x[i] = rng.integer(0, 3) == 0 ? ends[i / 64] : 0.3f * ends[i / 64];
  for (float& s : l.weights.scales) s = 1e-3f;
  check_grouped_input(l, "linear_dynamic_grouped of extremes");
}

TEST(linear_dynamic_grouped_refuses_what_does_not_fit) {
  Rng rng(104);
  const GroupedInput l(rng, {rng, {1, 64, 3}, 8, 32, false, false}, 32);
  const auto refused = [&](const std::function<void(DynamicGroupedLinear&)>& change) {
    DynamicGroupedLinear layer = l.linear();
    change(layer);
    CHECK_THROWS(std::invalid_argument, pack_linear_dynamic_grouped(layer, Isa::scalar));
  };
  refused([](DynamicGroupedLinear& d) { d.x_group = 0; });
  refused([](DynamicGroupedLinear& d) { d.x_group = 48; });
  refused([](DynamicGroupedLinear& d) { d.weights.outputs = 2; });
  const GroupedInput wide(rng, {rng, {1, gemm::kDynamicFeatures + 1, 1}, 8, gemm::kDynamicFeatures + 1, false, false},
                          gemm::kDynamicFeatures + 1);
  CHECK_THROWS(std::invalid_argument, pack_linear_dynamic_grouped(wide.linear(), Isa::scalar));
}
