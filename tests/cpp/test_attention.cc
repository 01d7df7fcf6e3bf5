#include "attention/attention.h"

#include <cfloat>
#include <cmath>
#include <limits>

#include "attention/functions.h"
#include "kernel_check.h"
#include "kernel_models.h"

using namespace qfx;
using namespace qfx::test;
using attention::MaskType;

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

// Which of an operand's dims lies outside: [batch, head, row, column], or as a linear layer writes it.
enum class Order { heads, rows };

struct Sample {
  int64_t batch = 1, heads = 1, key_heads = 1, queries = 1, keys = 1, depth = 8, width = 8;
  Order order = Order::heads;
  AttentionParams params;
  std::vector<int64_t> mask_full = {0, 0, 0, 0};  // of each dim of the mask: whether it is not 1
  double size = 1.0;                              // of the operands

  std::string text() const {
    return "batch " + std::to_string(batch) + " heads " + std::to_string(heads) + "/" + std::to_string(key_heads) +
           " queries " + std::to_string(queries) + " keys " + std::to_string(keys) + " depth " + std::to_string(depth) +
           " width " + std::to_string(width) + (params.causal ? " causal" : "") + " mask " +
           std::to_string(static_cast<int>(params.mask)) + " " + shown_dims(mask_full);
  }
};

HeadStrides strides(Order order, int64_t heads, int64_t rows, int64_t columns) {
  if (order == Order::heads) return {heads * rows * columns, rows * columns, columns};
  return {heads * rows * columns, columns, heads * columns};
}

AttentionShape shape_of(const Sample& s) {
  AttentionShape shape;
  shape.batch = s.batch, shape.heads = s.heads, shape.key_heads = s.key_heads;
  shape.queries = s.queries, shape.keys = s.keys, shape.depth = s.depth, shape.width = s.width;
  shape.q = strides(s.order, s.heads, s.queries, s.depth);
  shape.k = strides(s.order, s.key_heads, s.keys, s.depth);
  shape.v = strides(s.order, s.key_heads, s.keys, s.width);
  shape.out = strides(s.order, s.heads, s.queries, s.width);
  int64_t step = 1;
  int64_t* const of_mask[] = {&shape.mask_batch, &shape.mask_head, &shape.mask_row, &shape.mask_column};
  const int64_t sizes[] = {s.batch, s.heads, s.queries, s.keys};
  for (size_t d = 4; d-- > 0;) {
    *of_mask[d] = s.mask_full[d] != 0 ? step : 0;
    if (s.mask_full[d] != 0) step *= sizes[d];
  }
  return shape;
}

std::vector<Bytes> operands(const Sample& s, Rng& rng) {
  const auto floats = [&](int64_t n) { return bytes_of(random_floats(rng, n, -s.size, s.size)); };
  std::vector<Bytes> in = {floats(s.batch * s.heads * s.queries * s.depth),
                           floats(s.batch * s.key_heads * s.keys * s.depth),
                           floats(s.batch * s.key_heads * s.keys * s.width)};
  int64_t n = 1;
  const int64_t sizes[] = {s.batch, s.heads, s.queries, s.keys};
  for (size_t d = 0; d < 4; ++d)
    if (s.mask_full[d] != 0) n *= sizes[d];
  if (s.params.mask == MaskType::visible) {
    Bytes mask(static_cast<size_t>(n));
    for (uint8_t& seen : mask) seen = static_cast<uint8_t>(rng.integer(0, 3) != 0);
    in.push_back(mask);
  } else if (s.params.mask == MaskType::additive) {
    std::vector<float> mask = random_floats(rng, n, -4, 4);
    for (float& m : mask) m = rng.integer(0, 3) == 0 ? rng.pick<float>({-kInf, -FLT_MAX, -1e9f}) : m;
    in.push_back(bytes_of(mask));
  }
  return in;
}

std::vector<float> scalar_result(const Sample& s, const std::vector<Bytes>& in) {
  std::vector<const void*> at;
  for (const Bytes& bytes : in) at.push_back(bytes.data());
  std::vector<float> y(static_cast<size_t>(s.batch * s.heads * s.queries * s.width));
  test::run(*plan_attention(s.params, shape_of(s), Isa::scalar), at, {y.data()}, 1);
  return y;
}

// Every kernel against the scalar one, bit for bit.
void check(const Sample& s, const std::vector<Bytes>& in) {
  const std::vector<std::vector<float>> expected = {scalar_result(s, in)};
  for (const auto& kernel : runnable_attention_kernels()) {
    if (runs_on(kernel.isa) == RunsOn::nowhere) continue;
    const auto work = attention::plan_attention_kernel(kernel, s.params, shape_of(s));
    for (const int threads : {1, 3}) check_work(*work, in, expected, threads, s.text());
  }
}

float* floats_of(Bytes& bytes) {
  return reinterpret_cast<float*>(bytes.data());
}

Sample random_sample(Rng& rng) {
  Sample s;
  s.batch = rng.integer(1, 2);
  s.key_heads = rng.integer(1, 2);
  s.heads = s.key_heads * rng.integer(1, 3);
  s.queries = rng.pick<int64_t>({1, 5, 16, 17, 33});
  s.keys = rng.pick<int64_t>({1, 7, 8, 31, 32, 33, 49, 100});
  s.depth = rng.pick<int64_t>({1, 2, 3, 4, 7, 16, 17, 32, 64, 67});
  s.width = rng.pick<int64_t>({1, 2, 3, 4, 8, 9, 16, 31, 64});
  s.order = rng.pick<Order>({Order::heads, Order::rows});
  s.params.factor = static_cast<float>(rng.real(0.1, 2));
  s.params.causal = rng.integer(0, 2) == 0;
  s.params.mask = rng.pick<MaskType>({MaskType::none, MaskType::visible, MaskType::additive});
  for (int64_t& full : s.mask_full) full = rng.integer(0, 1);
  return s;
}

}  // namespace

TEST(attention_sizes_around_every_tile) {
  Rng rng(1);
  for (const int64_t depth : {1, 2, 3, 4, 5, 15, 16, 17, 64, 65})
    for (const int64_t width : {1, 7, 8, 9, 16, 24, 33})
      for (const int64_t keys : {1, 8, 9, 32, 33, 65}) {
        Sample s;
        s.queries = rng.pick<int64_t>({1, 4, 15, 16, 17, 35});
        s.keys = keys;
        s.depth = depth;
        s.width = width;
        check(s, operands(s, rng));
      }
}

TEST(attention_masks_heads_and_orders) {
  Rng rng(2);
  for (int i = 0; i < 150; ++i) {
    const Sample s = random_sample(rng);
    check(s, operands(s, rng));
  }
}

TEST(attention_of_tokens_of_very_different_sizes) {
  Rng rng(3);
  for (int i = 0; i < 40; ++i) {
    Sample s = random_sample(rng);
    s.size = 10;
    auto in = operands(s, rng);
    for (size_t o = 0; o < 3; ++o) {
      const int64_t row = o == 2 ? s.width : s.depth;
      for (int64_t at = 0; at < static_cast<int64_t>(in[o].size() / 4); at += row) {
        const float factor = rng.pick<float>({1.0f, 1e-3f, 1e3f, 0.0f, 1e-30f});
        for (int64_t c = 0; c < row; ++c) floats_of(in[o])[at + c] *= factor;
      }
    }
    check(s, in);
  }
}

TEST(attention_rows_that_are_masked_or_alike) {
  Rng rng(4);
  for (const float least : {-kInf, -FLT_MAX, -1e35f, kInf, std::numeric_limits<float>::quiet_NaN()}) {
    for (int i = 0; i < 12; ++i) {
      Sample s = random_sample(rng);
      s.params.mask = MaskType::additive;
      s.mask_full = {1, 1, 1, 1};
      auto in = operands(s, rng);
      const auto n = static_cast<int64_t>(in[3].size() / 4);
      for (int64_t row = 0; row < n; row += s.keys)
        if (rng.integer(0, 1) == 0)
          for (int64_t j = 0; j < s.keys; ++j) floats_of(in[3])[row + j] = rng.integer(0, 9) == 0 ? -FLT_MAX : least;
      check(s, in);
    }
  }
}

TEST(attention_blocks_that_masks_hide) {
  Rng rng(10);
  for (int i = 0; i < 200; ++i) {
    Sample s = random_sample(rng);
    s.params.mask = MaskType::additive;
    s.queries = rng.pick<int64_t>({16, 17, 33});
    s.keys = rng.pick<int64_t>({64, 97, 160, 200});
    s.mask_full[3] = 1;
    s.size = rng.pick<double>({1.0, 1.0, 1e18, 3e38});
    if (rng.integer(0, 3) == 0) s.params.factor = 0.0f;
    auto in = operands(s, rng);
    const float hidden = rng.pick<float>({-kInf, -FLT_MAX, -1e35f, -1e9f});
    const float others = rng.pick<float>({0.0f, 0.0f, -3.0f, -1e25f});
    const bool all = rng.integer(0, 3) == 0;
    int64_t begin = 0, end = s.keys;
    for (int64_t at = 0; at < static_cast<int64_t>(in[3].size() / 4); ++at) {
      if (!all && at % (4 * s.keys) == 0) begin = rng.integer(0, s.keys), end = begin + rng.integer(1, s.keys);
      const int64_t j = at % s.keys;
      floats_of(in[3])[at] = j >= begin && j < end ? hidden : others;
    }
    check(s, in);
  }
}

TEST(attention_rows_that_are_not_finite) {
  Rng rng(5);
  for (int i = 0; i < 60; ++i) {
    const Sample s = random_sample(rng);
    auto in = operands(s, rng);
    Bytes& x = in[static_cast<size_t>(rng.integer(0, 2))];
    floats_of(x)[rng.integer(0, static_cast<int64_t>(x.size() / 4) - 1)] =
        rng.pick<float>({kInf, -kInf, std::numeric_limits<float>::quiet_NaN(), 3e38f, 1e-40f});
    check(s, in);
  }
}

TEST(attention_of_scores_beyond_float) {
  Rng rng(6);
  for (const double size : {1e18, 3e38}) {
    Sample s;
    s.queries = 20, s.keys = 40, s.depth = 12, s.width = 5;
    s.size = size;
    check(s, operands(s, rng));
    s.params.factor = 0.0f;
    check(s, operands(s, rng));
  }
}

TEST(attention_without_elements) {
  Rng rng(7);
  for (int empty = 0; empty < 6; ++empty) {
    Sample s;
    int64_t* const sizes[] = {&s.batch, &s.heads, &s.queries, &s.keys, &s.depth, &s.width};
    *sizes[empty] = 0;
    if (empty == 1) s.key_heads = 0;
    check(s, operands(s, rng));
  }
}

TEST(attention_sums_at_their_limit_are_exact) {
  Rng rng(8);
  Sample s;
  s.keys = 3;
  s.depth = attention::kMostDepth;
  s.params.factor = 1e-6f;
  auto in = operands(s, rng);
  for (size_t o : {0, 1})
    for (int64_t i = 0; i < static_cast<int64_t>(in[o].size() / 4); ++i) floats_of(in[o])[i] = o == 0 ? 1.0f : -2.0f;
  check(s, in);
  s.depth += 1;
  CHECK_THROWS(std::invalid_argument, plan_attention(s.params, shape_of(s), Isa::scalar));
}

TEST(attention_refuses_what_it_could_not_compute) {
  Sample s;
  s.heads = 3;
  s.key_heads = 2;
  CHECK_THROWS(std::invalid_argument, plan_attention(s.params, shape_of(s), Isa::scalar));
  s.heads = 4;
  plan_attention(s.params, shape_of(s), Isa::scalar);
  s.params.factor = kInf;
  CHECK_THROWS(std::invalid_argument, plan_attention(s.params, shape_of(s), Isa::scalar));
}

TEST(attention_powers_and_logarithms_are_within_their_bounds) {
  Rng rng(9);
  for (int i = 0; i < 200000; ++i) {
    const auto t = static_cast<float>(rng.real(-126, 8));
    const double power = std::exp2(static_cast<double>(t));
    CHECK(std::fabs(static_cast<double>(attention::exp2_of(t)) - power) <= power * 0x1p-18);
    const auto v = static_cast<float>(std::exp2(rng.real(-67, 121)));
    const double log = std::log2(static_cast<double>(v));
    const double rounding = std::fabs(log) * 0x1p-24;
    CHECK(std::fabs(static_cast<double>(attention::log2_of(v)) - log) <= 0x1p-16 + rounding);
  }
  CHECK_EQ(attention::exp2_of(0.0f), 1.0f);
  for (const float t : {-126.6f, -127.0f, -1e30f, -kInf, std::numeric_limits<float>::quiet_NaN()})
    CHECK_EQ(attention::exp2_of(t), 0.0f);
  CHECK_EQ(attention::log2_of(1.0f), 0.0f);
}
