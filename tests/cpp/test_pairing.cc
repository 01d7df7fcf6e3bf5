#include "gemm/pairing.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <vector>

#include "harness.h"

using namespace qfx;
using gemm::Pairing;
using test::Rng;

namespace {

constexpr int32_t kLowest = -32768, kHighest = 32767;

// A bell of that half width, cut off at the ends of s8.
std::vector<int8_t> weights_of(Rng& rng, int64_t n, int64_t width) {
  std::vector<int8_t> weights(static_cast<size_t>(n));
  for (int8_t& w : weights) {
    int64_t sum = 0;
    for (int i = 0; i < 4; ++i) sum += rng.integer(-width, width);
    w = static_cast<int8_t>(std::clamp<int64_t>(sum / 2, -128, 127));
  }
  return weights;
}

// A packed run, read as a kernel reads it.
struct Run {
  int64_t steps, columns;
  std::vector<int8_t> plain;  // [step][columns][4]
  std::vector<int32_t> order, bias;
  std::vector<std::byte> weights;

  Run(std::vector<int8_t> packed, int64_t step_count, int64_t column_count)
      : steps(step_count), columns(column_count), plain(std::move(packed)), bias(static_cast<size_t>(columns)) {
    gemm::pair_run(plain.data(), steps, columns, order, weights, bias.data());
  }
};

struct Product {
  int64_t at;           // of its step's activations in the run
  const uint8_t* w;     // [columns][4]
  const uint8_t* mask;  // or null
};

// One product as the kernel makes it, in exact arithmetic: of weight i of that product and activation x.
int32_t product(const Product& p, int64_t i, uint8_t x) {
  if (p.mask == nullptr) return x * static_cast<int8_t>(p.w[i]);
  return p.w[i] * static_cast<int8_t>(x ^ p.mask[i]);
}

// visit(kind, products of a group) for every group.
template <class Visit>
void for_each_group(const Run& run, Visit&& visit) {
  const int64_t size = run.columns * 4;
  const auto* weights = reinterpret_cast<const uint8_t*>(run.weights.data());
  auto order = run.order.begin();
  for (int kind = 0; kind < gemm::kPairings; ++kind) {
    const auto pairing = static_cast<Pairing>(kind);
    const bool both = pairing == Pairing::both_turned, pair = both || pairing == Pairing::turned_and_plain;
    for (int32_t left = *order++; left > 0; --left) {
      std::vector<Product> products;
      for (int i = 0; i < (pair ? 2 : 1); ++i, weights += size) products.push_back({*order++, weights, nullptr});
      if (pairing != Pairing::plain) products[0].mask = weights, weights += size;
      if (both) products[1].mask = weights, weights += size;
      visit(pairing, products);
    }
  }
  CHECK(order == run.order.end());
  CHECK_EQ(weights - reinterpret_cast<const uint8_t*>(run.weights.data()), static_cast<int64_t>(run.weights.size()));
}

// The least and the greatest of a product's sum of two neighbours, over all activations, of lane `lane`.
std::pair<int32_t, int32_t> range(const Product& p, int64_t lane) {
  int32_t low = 0, high = 0;
  for (int64_t i = 2 * lane; i < 2 * lane + 2; ++i) {  // monotone in x
    const auto [least, greatest] = std::minmax({product(p, i, 0), product(p, i, 255)});
    low += least, high += greatest;
  }
  return {low, high};
}

void check_no_sum_leaves_16_bits(const Run& run) {
  for_each_group(run, [&](Pairing, const std::vector<Product>& products) {
    for (int64_t lane = 0; lane < 2 * run.columns; ++lane) {
      int32_t low = 0, high = 0;
      for (const Product& p : products) {
        const auto [least, greatest] = range(p, lane);
        CHECK(least >= kLowest && greatest <= kHighest);
        low += least, high += greatest;
      }
      CHECK(low >= kLowest && high <= kHighest);
    }
  });
}

void check_every_step_is_there_once(const Run& run) {
  std::multiset<int64_t> seen;
  for_each_group(run, [&](Pairing, const std::vector<Product>& products) {
    for (const Product& p : products) seen.insert(p.at);
  });
  CHECK_EQ(static_cast<int64_t>(seen.size()), run.steps);
  for (int64_t s = 0; s < run.steps; ++s) CHECK_EQ(seen.count(4 * s), size_t{1});
}

void check_sums(const Run& run, Rng& rng) {
  std::vector<uint8_t> x(static_cast<size_t>(4 * run.steps));
  for (uint8_t& v : x) v = static_cast<uint8_t>(rng.pick<int64_t>({0, 255, rng.integer(0, 255)}));
  std::vector<int64_t> sums(run.bias.begin(), run.bias.end()), expected(run.bias.size());
  for_each_group(run, [&](Pairing, const std::vector<Product>& products) {
    for (const Product& p : products)
      for (int64_t i = 0; i < 4 * run.columns; ++i)
        sums[static_cast<size_t>(i / 4)] += product(p, i, x[static_cast<size_t>(p.at + i % 4)]);
  });
  for (int64_t i = 0; i < run.steps * run.columns * 4; ++i) {
    const int64_t k = i / (run.columns * 4) * 4 + i % 4;
    expected[static_cast<size_t>(i / 4 % run.columns)] += run.plain[static_cast<size_t>(i)] * x[static_cast<size_t>(k)];
  }
  CHECK(sums == expected);
}

void check(const Run& run, Rng& rng) {
  check_no_sum_leaves_16_bits(run);
  check_every_step_is_there_once(run);
  check_sums(run, rng);
}

}  // namespace

TEST(pairing_is_exact_however_the_weights_are_spread) {
  Rng rng(1);
  std::set<Pairing> seen;
  for (int64_t width = 0; width <= 128; width += 4) {
    for (const int64_t columns : {8, 16}) {
      const int64_t steps = rng.integer(1, 60);
      const Run run(weights_of(rng, steps * columns * 4, width), steps, columns);
      check(run, rng);
      for_each_group(run, [&](Pairing kind, const std::vector<Product>&) { seen.insert(kind); });
    }
  }
  CHECK_EQ(static_cast<int>(seen.size()), gemm::kPairings);
}

TEST(pairing_is_exact_at_the_ends_of_the_range) {
  Rng rng(2);
  for (const int8_t end : {int8_t{-128}, int8_t{127}}) {
    check(Run(std::vector<int8_t>(9 * 8 * 4, end), 9, 8), rng);
    std::vector<int8_t> some(64 * 16 * 4);
    for (int8_t& w : some) w = static_cast<int8_t>(rng.integer(0, 3) == 0 ? end : rng.integer(-1, 1));
    check(Run(some, 64, 16), rng);
  }
}

TEST(pairing_halves_the_sums_of_most_normal_weights) {
  Rng rng(3);
  const int64_t steps = 256, columns = 16;
  const Run run(weights_of(rng, steps * columns * 4, 55), steps, columns);  // deviations of a quarter of the range
  int64_t paired = 0;
  for_each_group(run, [&](Pairing, const std::vector<Product>& products) {
    if (products.size() == 2) paired += 2;
  });
  CHECK(paired * 4 >= steps * 3);
}
