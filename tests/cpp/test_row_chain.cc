#include <cmath>

#include "elementwise/elementwise.h"
#include "float_ops/float_ops.h"
#include "gemm/quantized_rows.h"
#include "kernel_check.h"
#include "rotation/rotation.h"
#include "runtime/row_chain.h"

using namespace qfx;
using namespace qfx::test;

namespace {

using Works = std::vector<std::unique_ptr<Work>>;
using Floats = std::vector<float>;

// A chain of maps by their letters: layer norm, rms norm, gelu, block rotation.
struct Chain {
  std::string maps;
  int64_t rows, width;
  Floats weight, bias;

  Chain(Rng& rng, std::string letters, int64_t n, int64_t w)
      : maps(std::move(letters)),
        rows(n),
        width(w),
        weight(random_floats(rng, w, 0.5, 1.5)),
        bias(random_floats(rng, w, -1, 1)) {}

  Works works(Isa isa) const {
    Works made;
    for (const char map : maps) {
      if (map == 'l') made.push_back(plan_layer_norm(rows, width, 1e-5, weight, bias, isa));
      if (map == 'r') made.push_back(plan_rms_norm(rows, width, 1e-6, weight, isa));
      if (map == 'g') made.push_back(plan_pointwise_f32("gelu", std::vector{0.0}, rows * width, isa));
      if (map == 'b') made.push_back(plan_rotate(rows * width / 16, 16, isa));
    }
    return made;
  }

  std::unique_ptr<Work> followed_by(std::unique_ptr<Work> end, Isa isa) const {
    Works made = works(isa);
    made.push_back(std::move(end));
    return chain_rows(std::move(made), rows, width);
  }

  // One after the other, each over all rows.
  Bytes expected(Floats x, const Work& end, int64_t bytes) const {
    for (const auto& map : works(Isa::scalar)) {
      Floats y(x.size());
      run(*map, {x.data()}, {y.data()}, 1);
      x = y;
    }
    Bytes made(static_cast<size_t>(bytes), 0xcd);
    run(end, {x.data()}, {made.data()}, 1);
    return made;
  }
};

void check_chain(const Chain& chain, const Floats& x) {
  const int64_t rows = chain.rows, width = chain.width;
  const std::string what = "chain " + chain.maps + " of " + shown_dims({rows, width});
  const auto codes = [&](Isa isa) { return plan_quantize({rows, width}, {width, 1}, 0.02f, 120, isa); };
  check_on_every_isa([&](Isa isa) { return chain.followed_by(codes(isa), isa); }, {bytes_of(x)},
                     chain.expected(x, *codes(Isa::scalar), rows * width), what);
  for (const bool wide : {false, true}) {
    const gemm::RowLayout layout{width, (wide ? 2 : 1) * width + 10, wide, true};
    const QuantizedRows how{layout, Isa::scalar};
    check_on_every_isa([&](Isa isa) { return chain.followed_by(QuantizedRows{layout, isa}.plan(rows), isa); },
                       {bytes_of(x)}, chain.expected(x, *how.plan(rows), how.bytes(rows)), what + ", by rows");
  }
}

}  // namespace

TEST(row_chains_are_their_works_one_after_the_other) {
  Rng rng(120);
  for (const char* maps : {"l", "r", "g", "b", "lb", "gb", "rgb", "lgrb", "bg"})
    for (const Dims& s : {Dims{0, 48}, Dims{1, 48}, Dims{3, 16}, Dims{7, 80}, Dims{300, 48}, Dims{3, 5008}}) {
      Chain chain(rng, maps, s[0], s[1]);
      check_chain(chain, random_floats(rng, s[0] * s[1], -3, 3));
    }
  for (const char* maps : {"l", "r", "g", "lg"})
    for (const int64_t width : {1, 5, 33, 127}) {
      Chain chain(rng, maps, 9, width);
      check_chain(chain, random_floats(rng, 9 * width, -3, 3));
    }
}

TEST(row_chains_keep_what_is_not_finite_in_its_row) {
  Rng rng(121);
  for (const char* maps : {"b", "lb", "gb", "rg"})
    for (const float value : {INFINITY, -INFINITY, 3e38f, -0.0f}) {
      const Chain chain(rng, maps, 6, 48);
      Floats x = random_floats(rng, 6 * 48, -3, 3);
      x[2 * 48 + 17] = value;
      std::fill_n(x.begin() + 4 * 48, 48, value == 0.0f ? value : 0.0f);
      check_chain(chain, x);
    }
}

TEST(row_chains_are_of_maps_and_an_end) {
  const auto codes = [] { return plan_quantize({2, 16}, {16, 1}, 0.02f, 0, Isa::scalar); };
  const auto gelu = [] { return plan_pointwise_f32("gelu", std::vector{0.0}, 32); };
  const auto of = [](auto first, auto second) {
    Works works;
    works.push_back(std::move(first));
    works.push_back(std::move(second));
    return chain_rows(std::move(works), 2, 16);
  };
  CHECK(of(gelu(), codes()) != nullptr);
  CHECK(of(gelu(), gelu()) == nullptr);
  CHECK(of(codes(), codes()) == nullptr);
  CHECK(of(plan_pointwise_f32("sin", {}, 32), codes()) == nullptr);
}
