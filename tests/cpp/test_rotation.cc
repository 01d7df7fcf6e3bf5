#include <cmath>
#include <stdexcept>

#include "kernel_check.h"
#include "rotation/kernels.h"
#include "rotation/rotation.h"

using namespace qfx;
using namespace qfx::test;

namespace {

// The entry of Sylvester's Hadamard matrix.
double entry(size_t i, size_t j) {
  return __builtin_popcountll(i & j) % 2 == 0 ? 1.0 : -1.0;
}

}  // namespace

TEST(rotation_is_the_product_with_a_hadamard_matrix_on_every_level) {
  Rng rng(91);
  for (const int64_t block : rotation::kBlocks)
    for (const int64_t blocks : {0, 1, 2, 3, 7, 24}) {
      const auto x = random_floats(rng, blocks * block, -40, 40);
      std::vector<float> y(x.size());
      run(*plan_rotate(blocks, block, Isa::scalar), {x.data()}, {y.data()}, 1);
      const auto n = static_cast<size_t>(block);
      for (size_t i = 0; i < y.size(); ++i) {
        double sum = 0.0, size = 0.0;
        for (size_t j = 0; j < n; ++j) {
          const double v = x[i / n * n + j];
          sum += entry(i % n, j) * v;
          size += std::fabs(v);
        }
        // log2(block) + 2 roundings of values that are no larger than the sum of the sizes.
        const double root = std::sqrt(static_cast<double>(block)), bound = 9 * 0x1p-24 * size / root;
        CHECK(std::fabs(y[i] - sum / root) <= bound);
      }
      check_on_every_isa([&](Isa isa) { return plan_rotate(blocks, block, isa); }, {bytes_of(x)}, y,
                         "rotation of " + std::to_string(blocks) + " blocks of " + std::to_string(block));
    }
}

TEST(rotation_keeps_signs_of_zeros_and_what_is_not_finite_alike_on_every_level) {
  Rng rng(92);
  for (const int64_t block : rotation::kBlocks) {
    auto x = random_floats(rng, 4 * block, -1, 1);
    for (int64_t i = 0; i < block; ++i) x[static_cast<size_t>(i)] = i % 3 == 0 ? -0.0f : 0.0f;
    x[static_cast<size_t>(block + 5)] = INFINITY;
    x[static_cast<size_t>(3 * block - 1)] = 3e38f;
    x[static_cast<size_t>(3 * block - 2)] = 3e38f;
    std::vector<float> y(x.size());
    run(*plan_rotate(4, block, Isa::scalar), {x.data()}, {y.data()}, 1);
    check_on_every_isa([&](Isa isa) { return plan_rotate(4, block, isa); }, {bytes_of(x)}, y,
                       "rotation of special values in blocks of " + std::to_string(block));
  }
}

TEST(rotation_takes_blocks_that_it_has) {
  for (const int64_t block : {0, 1, 8, 24, 256})
    CHECK_THROWS(std::invalid_argument, plan_rotate(1, block, Isa::scalar));
  CHECK_THROWS(std::invalid_argument, plan_rotate(-1, 16, Isa::scalar));
}

namespace {

// Rotated, and then quantized, as two steps; what lies between the results is whatever it was.
Bytes quantized(const std::vector<float>& x, int64_t rows, int64_t block, const QuantizedRows& how) {
  std::vector<float> rotated(x.size());
  run(*plan_rotate(static_cast<int64_t>(x.size()) / block, block, Isa::scalar), {x.data()}, {rotated.data()}, 1);
  Bytes made(static_cast<size_t>(how.bytes(rows)), 0xcd);
  run(*how.plan(rows), {rotated.data()}, {made.data()}, 1);
  return made;
}

}  // namespace

TEST(rotated_rows_are_quantized_as_by_two_steps) {
  Rng rng(93);
  for (const int64_t block : rotation::kBlocks)
    for (const int64_t rows : {0, 1, 2, 7, 33})
      for (const bool wide : {false, true})
        for (const bool sums : {false, true}) {
          const int64_t features = block * rng.integer(1, 5);
          const QuantizedRows scalar{{features, (wide ? 2 : 1) * features + 8, wide, sums}, Isa::scalar};
          auto x = random_floats(rng, rows * features, -40, 40);
          if (rows > 2) x[static_cast<size_t>(features + 3)] = rng.pick<float>({NAN, INFINITY, -INFINITY, 3e38f});
          if (rows > 2) std::fill_n(x.begin(), features, -0.0f);
          check_on_every_isa([&](Isa isa) { return plan_rotate_rows(rows, block, {scalar.layout, isa}); },
                             {bytes_of(x)}, quantized(x, rows, block, scalar),
                             "rotated rows of " + std::to_string(features) + " quantized");
        }
}
