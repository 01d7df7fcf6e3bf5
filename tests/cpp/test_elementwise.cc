#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "core/requant.h"
#include "elementwise/kernels.h"
#include "kernel_check.h"

using namespace qfx;
using namespace qfx::test;

namespace {

int64_t broadcast_index(const test::Dims& at, const test::Dims& shape) {
  int64_t index = 0;
  for (size_t d = 0; d < shape.size(); ++d) index = index * shape[d] + (shape[d] == 1 ? 0 : at[d]);
  return index;
}

test::Dims broadcast_shape(const test::Dims& a, const test::Dims& b) {
  test::Dims shape(a.size());
  for (size_t d = 0; d < a.size(); ++d) shape[d] = a[d] == 1 ? b[d] : a[d];
  return shape;
}

Bytes reference_binary(const BinaryQuant& q, const test::Dims& a, const test::Dims& b, const Bytes& x, const Bytes& y,
                       const Bytes& lut) {
  const test::Dims shape = broadcast_shape(a, b);
  Bytes out(static_cast<size_t>(element_count(shape)));
  for (size_t i = 0; i < out.size(); ++i) {
    const test::Dims at = unravel(static_cast<int64_t>(i), shape);
    const int32_t u = x[static_cast<size_t>(broadcast_index(at, a))] - q.a_zero_point;
    const int32_t v = y[static_cast<size_t>(broadcast_index(at, b))] - q.b_zero_point;
    volatile float p = static_cast<float>(q.op == BinaryOp::mul ? u * v : u) * q.a_multiplier;
    volatile float r = static_cast<float>(v) * q.b_multiplier;
    const float value = q.op == BinaryOp::mul ? p : (q.op == BinaryOp::add ? p + r : p - r);
    out[i] = requantize(value, q.zero_point, q.lo, q.hi);
    if (!lut.empty()) out[i] = lut[out[i]];
  }
  return out;
}

BinaryQuant random_quant(Rng& rng) {
  BinaryQuant q;
  q.op = static_cast<BinaryOp>(rng.integer(0, 2));
  q.a_zero_point = static_cast<int32_t>(rng.pick<int64_t>({0, 255, 128, rng.integer(0, 255)}));
  q.b_zero_point = static_cast<int32_t>(rng.pick<int64_t>({0, 255, 128, rng.integer(0, 255)}));
  q.zero_point = static_cast<int32_t>(rng.pick<int64_t>({0, 255, 128, rng.integer(0, 255)}));
  q.a_multiplier = static_cast<float>(rng.pick<double>({0.5, 1.0, rng.real(0.0, 2.0), rng.real(0.0, 0.02), 1e9, 1e-9}));
  q.b_multiplier = static_cast<float>(rng.pick<double>({0.5, 1.0, rng.real(0.0, 2.0), -1.0, 3e7, 1e-9}));
  if (rng.integer(0, 1) != 0) {
    q.lo = static_cast<int32_t>(rng.integer(0, 255));
    q.hi = static_cast<int32_t>(rng.integer(q.lo, 255));
  }
  return q;
}

void check_binary(Rng& rng, const test::Dims& a, const test::Dims& b) {
  const BinaryQuant quant = random_quant(rng);
  const Bytes lut = rng.integer(0, 2) == 0 ? random_bytes(rng, 256) : Bytes{};
  const Bytes x = random_bytes(rng, element_count(a)), y = random_bytes(rng, element_count(b));
  check_on_every_isa([&](Isa isa) { return plan_binary_u8(quant, a, b, lut, isa); }, {x, y},
                     reference_binary(quant, a, b, x, y, lut),
                     "op " + std::to_string(static_cast<int>(quant.op)) + " " + shown_dims(a) + shown_dims(b));
}

}  // namespace

TEST(binary_same_shapes_of_every_length) {
  Rng rng(1);
  for (int64_t n = 0; n < 200; ++n) check_binary(rng, {n}, {n});
  for (int64_t n : {255, 256, 511, 1023, 4095, 4097, 9000}) check_binary(rng, {n}, {n});
}

TEST(binary_channel_broadcast_as_in_squeeze_excite) {
  Rng rng(2);
  for (int64_t c : {1, 3, 8, 16, 24, 31, 32, 33, 64, 72, 96, 240, 511, 512, 513, 700, 1300})
    for (int64_t n : {1, 3}) {
      check_binary(rng, {n, 3, 7, c}, {n, 1, 1, c});
      check_binary(rng, {n, 1, 1, c}, {n, 5, 2, c});
      check_binary(rng, {n, 3, 7, c}, {1, 1, 1, c});
      check_binary(rng, {n, 3, 7, c}, {n, 3, 7, 1});
    }
}

TEST(binary_random_broadcasts) {
  Rng rng(3);
  for (int i = 0; i < 600; ++i) {
    const int64_t rank = rng.integer(0, 5);
    test::Dims a, b;
    for (int64_t d = 0; d < rank; ++d) {
      const int64_t size = rng.integer(0, 30) == 0 ? 0 : rng.pick<int64_t>({1, 2, 3, 5, 8, rng.integer(1, 40)});
      a.push_back(rng.integer(0, 3) == 0 ? 1 : size);
      b.push_back(rng.integer(0, 3) == 0 ? 1 : size);
    }
    if (element_count(broadcast_shape(a, b)) > 40000) continue;
    check_binary(rng, a, b);
  }
}

// Few pairs of codes tell two rounded products from a fused multiply-add: multipliers are drawn until some do.
TEST(binary_rounds_each_product_on_its_own) {
  Rng rng(14);
  Bytes a(1 << 16), b(1 << 16);
  for (size_t i = 0; i < a.size(); ++i) a[i] = static_cast<uint8_t>(i >> 8), b[i] = static_cast<uint8_t>(i);
  const test::Dims shape{static_cast<int64_t>(a.size())};
  int64_t told[2] = {};
  for (int i = 0; i < 40; ++i) {
    BinaryQuant q;
    q.op = i % 2 == 0 ? BinaryOp::add : BinaryOp::sub;
    q.a_multiplier = static_cast<float>(rng.real(0.3, 0.6));
    q.b_multiplier = static_cast<float>(rng.real(0.3, 0.6));
    q.zero_point = i % 2 == 0 ? 0 : 128;
    const float sign = i % 2 == 0 ? 1.0f : -1.0f;
    const Bytes y = reference_binary(q, shape, shape, a, b, {});
    int64_t here[2] = {};
    for (size_t k = 0; k < y.size(); ++k) {
      const float u = a[k], v = sign * b[k], p = u * q.a_multiplier, r = v * q.b_multiplier;
      here[0] += requantize(std::fma(u, q.a_multiplier, r), q.zero_point, 0, 255) != y[k];
      here[1] += requantize(std::fma(v, q.b_multiplier, p), q.zero_point, 0, 255) != y[k];
    }
    for (int k = 0; k < 2; ++k) told[k] += here[k];
    if (here[0] + here[1] == 0) continue;
    check_on_every_isa([&](Isa isa) { return plan_binary_u8(q, shape, shape, {}, isa); }, {a, b}, y, "all pairs");
  }
  CHECK(told[0] > 0 && told[1] > 0);
}

TEST(binary_rejects_what_it_cannot_do) {
  BinaryQuant q;
  const Isa isa = Isa::scalar;
  CHECK_THROWS(std::invalid_argument, plan_binary_u8(q, {2, 3}, {3}, {}, isa));
  CHECK_THROWS(std::invalid_argument, plan_binary_u8(q, {2, 3}, {2, 4}, {}, isa));
  CHECK_THROWS(std::invalid_argument, plan_binary_u8(q, {-1}, {-1}, {}, isa));
  CHECK_THROWS(std::invalid_argument, plan_binary_u8(q, {2}, {2}, Bytes(255), isa));
  q.a_multiplier = std::numeric_limits<float>::quiet_NaN();
  CHECK_THROWS(std::invalid_argument, plan_binary_u8(q, {2}, {2}, {}, isa));
  q = {};
  q.zero_point = 256;
  CHECK_THROWS(std::invalid_argument, plan_binary_u8(q, {2}, {2}, {}, isa));
  q = {};
  q.lo = 9;
  q.hi = 8;
  CHECK_THROWS(std::invalid_argument, plan_binary_u8(q, {2}, {2}, {}, isa));
}

TEST(lookup_u8_and_f32_of_every_length) {
  Rng rng(4);
  std::vector<int64_t> lengths{1000, 4096, 20000};
  for (int64_t n = 0; n < 140; ++n) lengths.push_back(n);
  for (int64_t n : lengths) {
    const Bytes x = random_bytes(rng, n), table = random_bytes(rng, 256);
    std::vector<float> floats;
    for (int i = 0; i < 256; ++i) floats.push_back(static_cast<float>(rng.real(-9, 9)));
    Bytes y;
    std::vector<float> z;
    for (uint8_t code : x) {
      y.push_back(table[code]);
      z.push_back(floats[code]);
    }
    check_on_every_isa([&](Isa isa) { return plan_lookup_u8(n, table, isa); }, {x}, y, "lookup_u8");
    check_on_every_isa([&](Isa isa) { return plan_lookup_f32(n, floats, isa); }, {x}, z, "lookup_f32");
  }
}

TEST(lookup_u8_of_every_code) {
  Rng rng(5);
  Bytes x(256 * 3 + 7);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<uint8_t>(i * 7);
  const Bytes table = random_bytes(rng, 256);
  Bytes y;
  for (uint8_t code : x) y.push_back(table[code]);
  check_on_every_isa([&](Isa isa) { return plan_lookup_u8(static_cast<int64_t>(x.size()), table, isa); }, {x}, y,
                     "all");
  CHECK_THROWS(std::invalid_argument, plan_lookup_u8(3, Bytes(257), Isa::scalar));
  CHECK_THROWS(std::invalid_argument, plan_lookup_f32(-1, std::vector<float>(256), Isa::scalar));
}

namespace {

uint8_t reference_quantize(float x, float scale, int32_t zero_point) {
  volatile double quotient = static_cast<double>(x) / static_cast<double>(scale);
  if (std::isnan(quotient)) return static_cast<uint8_t>(zero_point);
  const double q = std::nearbyint(quotient) + zero_point;
  return static_cast<uint8_t>(q < 0 ? 0 : (q > 255 ? 255 : q));
}

// Values where a careless kernel goes wrong: at, right below and right above every tie, and the specials.
float difficult(Rng& rng, float scale, int32_t zero_point) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const double code = static_cast<double>(rng.integer(-zero_point - 2, 257 - zero_point));
  const float tie = static_cast<float>((code + 0.5) * static_cast<double>(scale));
  switch (rng.integer(0, 9)) {
    case 0:
      return tie;
    case 1:
      return std::nextafter(tie, kInf);
    case 2:
      return std::nextafter(tie, -kInf);
    case 3:
      return std::nextafter(std::nextafter(tie, kInf), kInf);
    case 4:
      return static_cast<float>(code * static_cast<double>(scale));
    case 5:
      return rng.pick<float>({kInf, -kInf, std::numeric_limits<float>::quiet_NaN(), -0.0f, 1e-45f, -1e-40f, 3e38f,
                              -3e38f, -std::numeric_limits<float>::quiet_NaN()});
    default:
      return static_cast<float>(rng.real(-300, 300) * static_cast<double>(scale));
  }
}

float random_scale(Rng& rng) {
  return rng.pick<float>({1.0f, 0.5f, 1.0f / 255, 2.0f / 255, 0.1f, static_cast<float>(rng.real(1e-4, 1)),
                          static_cast<float>(rng.real(1e-4, 1)), static_cast<float>(std::exp2(rng.real(-90, 90))),
                          1e-42f, 1e-38f, 1e38f});
}

// x holds `shape` in the order of `order` (outermost first): strides follow from it.
void check_quantize(Rng& rng, const test::Dims& shape, const std::vector<size_t>& order) {
  const float scale = random_scale(rng);
  const int32_t zero_point = static_cast<int32_t>(rng.pick<int64_t>({0, 255, 128, rng.integer(0, 255)}));
  test::Dims strides(shape.size());
  int64_t step = 1;
  for (size_t d = order.size(); d-- > 0;) {
    strides[order[d]] = step;
    step *= shape[order[d]];
  }
  std::vector<float> x(static_cast<size_t>(element_count(shape)));
  for (float& value : x) value = difficult(rng, scale, zero_point);
  Bytes y;
  for (size_t i = 0; i < x.size(); ++i) {
    const test::Dims at = unravel(static_cast<int64_t>(i), shape);
    int64_t offset = 0;
    for (size_t d = 0; d < shape.size(); ++d) offset += at[d] * strides[d];
    y.push_back(reference_quantize(x[static_cast<size_t>(offset)], scale, zero_point));
  }
  check_on_every_isa([&](Isa isa) { return plan_quantize(shape, strides, scale, zero_point, isa); }, {bytes_of(x)}, y,
                     "quantize " + shown_dims(shape) + " strides " + shown_dims(strides) + " scale " +
                         std::to_string(scale) + " zero point " + std::to_string(zero_point));
}

std::vector<size_t> random_order(Rng& rng, size_t rank) {
  std::vector<size_t> order(rank);
  for (size_t d = 0; d < rank; ++d) order[d] = d;
  for (size_t d = rank; d > 1; --d)
    std::swap(order[d - 1], order[static_cast<size_t>(rng.integer(0, static_cast<int64_t>(d) - 1))]);
  return order;
}

}  // namespace

TEST(quantize_dense_of_every_length) {
  Rng rng(6);
  for (int64_t n = 0; n < 150; ++n) check_quantize(rng, {n}, {0});
  for (int i = 0; i < 100; ++i) check_quantize(rng, {2000}, {0});
}

// What kernels decide many of at once: nothing near a tie, and numbers far out of the range on either side, of which
// powers of two have a quotient without a rest.
TEST(quantize_what_is_not_in_doubt) {
  Rng rng(10);
  for (int i = 0; i < 60; ++i) {
    const float scale = std::ldexp(1.0f, static_cast<int>(rng.integer(-9, 3)));
    const auto zero_point = static_cast<int32_t>(rng.integer(0, 255));
    std::vector<float> x(static_cast<size_t>(rng.integer(64, 400)));
    Bytes y;
    for (float& value : x) {
      const double far = std::ldexp(rng.integer(0, 1) == 0 ? 1.0 : -1.0, static_cast<int>(rng.integer(7, 40)));
      const double near = static_cast<double>(rng.integer(-300, 300)) + rng.real(-0.4, 0.4);
      value = static_cast<float>((rng.integer(0, 5) == 0 ? far : near) * static_cast<double>(scale));
      y.push_back(reference_quantize(value, scale, zero_point));
    }
    const Dims shape{static_cast<int64_t>(x.size())};
    check_on_every_isa([&](Isa isa) { return plan_quantize(shape, {1}, scale, zero_point, isa); }, {bytes_of(x)}, y,
                       "quantize of what is not in doubt");
  }
}

TEST(quantize_three_planes_to_pixels) {
  Rng rng(7);
  for (int64_t pixels = 0; pixels < 150; ++pixels) check_quantize(rng, {2, pixels, 1, 3}, {0, 3, 1, 2});
  for (int i = 0; i < 40; ++i) check_quantize(rng, {1, 16, 23, 3}, {0, 3, 1, 2});
}

TEST(quantize_planes_to_pixels_of_any_width) {
  Rng rng(8);
  for (int64_t c : {1, 2, 4, 5, 15, 16, 17, 63, 64, 65, 130})
    for (int64_t w : {1, 7, 16, 65}) check_quantize(rng, {2, 3, w, c}, {0, 3, 1, 2});
}

TEST(quantize_any_layout) {
  Rng rng(9);
  for (int i = 0; i < 300; ++i) {
    test::Dims shape;
    for (int64_t d = rng.integer(0, 5); d > 0; --d) shape.push_back(rng.integer(0, 40) == 0 ? 0 : rng.integer(1, 7));
    check_quantize(rng, shape, random_order(rng, shape.size()));
  }
}

TEST(quantize_with_a_row_pitch_and_a_repeated_dim) {
  Rng rng(10);
  std::vector<float> x(10 * 20);
  for (float& value : x) value = static_cast<float>(rng.real(-3, 3));
  Bytes pitched, repeated;
  for (int64_t r = 0; r < 10; ++r)
    for (int64_t c = 0; c < 17; ++c)
      pitched.push_back(reference_quantize(x[static_cast<size_t>(r * 20 + c)], 0.02f, 100));
  for (int64_t r = 0; r < 4; ++r)
    for (int64_t c = 0; c < 200; ++c) repeated.push_back(reference_quantize(x[static_cast<size_t>(c)], 0.02f, 100));
  check_on_every_isa([&](Isa isa) { return plan_quantize({10, 17}, {20, 1}, 0.02f, 100, isa); }, {bytes_of(x)}, pitched,
                     "pitch");
  check_on_every_isa([&](Isa isa) { return plan_quantize({4, 200}, {0, 1}, 0.02f, 100, isa); }, {bytes_of(x)}, repeated,
                     "repeat");
}

TEST(quantize_rejects_bad_parameters) {
  CHECK_THROWS(std::invalid_argument, plan_quantize({1}, {1}, 0.0f, 0, Isa::scalar));
  CHECK_THROWS(std::invalid_argument, plan_quantize({1}, {1}, std::nanf(""), 0, Isa::scalar));
  CHECK_THROWS(std::invalid_argument, plan_quantize({1}, {1}, 1.0f, -1, Isa::scalar));
  CHECK_THROWS(std::invalid_argument, plan_quantize({1}, {1, 1}, 1.0f, 0, Isa::scalar));
}

namespace {

void check_dequantize(Rng& rng, const test::Dims& shape, const std::vector<int>& perm) {
  const float scale = random_scale(rng);
  const int32_t zero_point = static_cast<int32_t>(rng.integer(0, 255));
  const Bytes x = random_bytes(rng, element_count(shape));
  const test::Dims strides = dense_strides(shape);
  test::Dims y_shape;
  for (int d : perm) y_shape.push_back(shape[static_cast<size_t>(d)]);
  std::vector<float> y;
  for (size_t i = 0; i < x.size(); ++i) {
    const test::Dims at = unravel(static_cast<int64_t>(i), y_shape);
    int64_t offset = 0;
    for (size_t d = 0; d < perm.size(); ++d) offset += at[d] * strides[static_cast<size_t>(perm[d])];
    y.push_back(static_cast<float>(x[static_cast<size_t>(offset)] - zero_point) * scale);
  }
  check_on_every_isa([&](Isa isa) { return plan_dequantize(shape, perm, scale, zero_point, isa); }, {x}, y,
                     "dequantize " + shown_dims(shape));
}

}  // namespace

TEST(dequantize_dense_of_every_length) {
  Rng rng(11);
  for (int64_t n = 0; n < 100; ++n) check_dequantize(rng, {n}, {0});
  check_dequantize(rng, {}, {});
}

TEST(dequantize_pixels_to_planes) {
  Rng rng(12);
  for (int64_t c : {1, 2, 3, 4, 15, 16, 17, 21, 64, 65, 130})
    for (int64_t w : {1, 5, 13, 64, 65}) check_dequantize(rng, {2, 3, w, c}, {0, 3, 1, 2});
}

TEST(dequantize_any_layout) {
  Rng rng(13);
  for (int i = 0; i < 300; ++i) {
    test::Dims shape;
    for (int64_t d = rng.integer(0, 5); d > 0; --d) shape.push_back(rng.integer(0, 40) == 0 ? 0 : rng.integer(1, 7));
    std::vector<int> perm;
    for (size_t d : random_order(rng, shape.size())) perm.push_back(static_cast<int>(d));
    check_dequantize(rng, shape, perm);
  }
  CHECK_THROWS(std::invalid_argument, plan_dequantize({2, 3}, {0, 0}, 1.0f, 0, Isa::scalar));
  CHECK_THROWS(std::invalid_argument, plan_dequantize({2, 3}, {0, 2}, 1.0f, 0, Isa::scalar));
}

TEST(elementwise_extent_finds_the_range_and_what_is_not_finite) {
  Rng rng(97);
  for (const Isa isa : isas()) {
    const auto extent = elementwise::select<elementwise::Extent>(isa);
    for (const int64_t n : {0, 1, 7, 16, 31, 32, 33, 75}) {
      std::vector<float> x = random_floats(rng, n, -2, 3);
      float low = -0.5f, high = 0.5f;
      extent.run(x.data(), n, &low, &high);
      x.push_back(-0.5f);
      CHECK_EQ(low, *std::min_element(x.begin(), x.end()));
      x.back() = 0.5f;
      CHECK_EQ(high, *std::max_element(x.begin(), x.end()));
      for (const float value : {NAN, INFINITY, -INFINITY})
        for (int64_t at = 0; at < n; ++at) {
          std::vector<float> other = x;
          other[static_cast<size_t>(at)] = value;
          low = high = 0.0f;
          extent.run(other.data(), n, &low, &high);
          CHECK(std::isnan(low) && std::isnan(high));
          extent.run(x.data(), n, &low, &high);  // a later finite row does not heal it
          CHECK(std::isnan(low) && std::isnan(high));
        }
    }
  }
}
