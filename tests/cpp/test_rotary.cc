#include <cmath>
#include <stdexcept>

#include "kernel_check.h"
#include "rotary/kernels.h"
#include "rotary/rotary.h"

using namespace qfx;
using namespace qfx::test;

namespace {

// Rows of [batch][rows][length] with angles of [rows].
RotaryProblem problem(Dims shape, int64_t pairs, bool interleaved, bool shared) {
  const int64_t width = shared ? pairs : 2 * pairs;
  return {std::move(shape), {0, width}, {0, width}, pairs, interleaved, shared};
}

struct Case {
  int64_t pairs, rest;
  bool interleaved, shared;
};

std::vector<Case> cases() {
  std::vector<Case> made;
  for (const int64_t pairs : {1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 32, 33})
    for (const int64_t rest : {0, 5})
      for (const bool interleaved : {false, true})
        for (const bool shared : {false, true}) made.push_back({pairs, rest, interleaved, shared});
  return made;
}

}  // namespace

TEST(rotary_turns_pairs_on_every_level) {
  Rng rng(93);
  for (const auto& [pairs, rest, interleaved, shared] : cases()) {
    const int64_t batch = 2, rows = 3, length = 2 * pairs + rest, width = shared ? pairs : 2 * pairs;
    const auto x = random_floats(rng, batch * rows * length, -4, 4);
    const auto cos = random_floats(rng, rows * width, -1, 1), sin = random_floats(rng, rows * width, -1, 1);
    std::vector<float> y(x);
    for (int64_t row = 0; row < batch * rows; ++row)
      for (int64_t i = 0; i < pairs; ++i) {
        const int64_t a = interleaved ? 2 * i : i, b = interleaved ? 2 * i + 1 : i + pairs;
        const auto at = [&](const std::vector<float>& angles, int64_t k) {
          return angles[static_cast<size_t>(row % rows * width + (shared ? i : k))];
        };
        const auto from = static_cast<size_t>(row * length);
        const float first = x[from + static_cast<size_t>(a)], second = x[from + static_cast<size_t>(b)];
        const float fc = first * at(cos, a), ss = second * at(sin, a), sc = second * at(cos, b),
                    fs = first * at(sin, b);
        y[from + static_cast<size_t>(a)] = fc - ss;
        y[from + static_cast<size_t>(b)] = sc + fs;
      }
    check_on_every_isa(
        [&](Isa isa) { return plan_rotary(problem({batch, rows, length}, pairs, interleaved, shared), isa); },
        {bytes_of(x), bytes_of(cos), bytes_of(sin)}, y,
        "rotary of " + std::to_string(pairs) + " pairs and " + std::to_string(rest) +
            (interleaved ? ", neighbours" : ", halves") + (shared ? ", one angle" : ""));
  }
}

TEST(rotary_takes_pairs_that_a_row_has) {
  CHECK_THROWS(std::invalid_argument, plan_rotary(problem({2, 3, 7}, 4, false, false), Isa::scalar));
  CHECK_THROWS(std::invalid_argument, plan_rotary(problem({2, -3, 8}, 4, false, false), Isa::scalar));
}
