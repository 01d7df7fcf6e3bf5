#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "fake_quant/fake_quant.h"
#include "harness.h"
#include "ledger.h"
#include "runtime/threads.h"

using namespace qfx;
using namespace qfx::test;
using namespace qfx::fake_quant;

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

template <class Kind>
Kernel<Kind> kernel(Isa isa) {
  const Kernel<Kind> found = select<Kind>(isa);
  note_kernel(found.name);
  return found;
}

template <class T>
struct Guarded {
  GuardedBuffer memory;
  explicit Guarded(size_t n) : memory(n * sizeof(T)) { memory.fill(0xcd); }
  explicit Guarded(const std::vector<T>& values) : memory(values.size() * sizeof(T)) {
    if (!values.empty()) std::memcpy(memory.data(), values.data(), values.size() * sizeof(T));
  }
  T* data() { return memory.data<T>(); }
  std::vector<T> values(size_t n) { return {data(), data() + n}; }
};

template <class T>
void check_bits(const std::vector<T>& got, const std::vector<T>& expected, const std::string& what) {
  CHECK_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i)
    if (std::memcmp(&got[i], &expected[i], sizeof(T)) != 0)
      throw Failure(what + ": element " + std::to_string(i) + " of " + std::to_string(got.size()) + " is " +
                    shown(got[i]) + ", not " + shown(expected[i]));
}

Grid random_grid(Rng& rng) {
  const bool is_signed = rng.integer(0, 1) != 0;
  const int32_t low = is_signed ? static_cast<int32_t>(rng.pick<int64_t>({-128, -127, -64, -8})) : 0;
  const int32_t high = is_signed ? -low - 1 : static_cast<int32_t>(rng.pick<int64_t>({255, 127, 15}));
  const auto scale = static_cast<float>(std::exp2(rng.real(-40.0, 20.0)));
  return Grid::of(scale, static_cast<int32_t>(rng.integer(low, high)), low, high);
}

// Ties and their neighbours, the ends of the range, far values, zeros and what is no number.
float awkward(Rng& rng, const Grid& g) {
  const double step = static_cast<double>(g.scale);
  const double k = static_cast<double>(rng.integer(-300, 300));
  switch (rng.integer(0, 9)) {
    case 0:
      return static_cast<float>((k + 0.5) * step);
    case 1:
      return std::nextafter(static_cast<float>((k + 0.5) * step), rng.integer(0, 1) != 0 ? kInf : -kInf);
    case 2:
      return static_cast<float>((static_cast<double>(g.highest) + 0.5) * step);
    case 3:
      return static_cast<float>((static_cast<double>(g.lowest) - 0.5) * step);
    case 4:
      return rng.pick<float>({0.0f, -0.0f, kInf, -kInf, kNan, 3e38f, -3e38f, 1e-42f});
    default:
      return static_cast<float>(rng.real(-300.0, 300.0) * step);
  }
}

std::vector<float> awkward_row(Rng& rng, const Grid& grid, int64_t n) {
  std::vector<float> x(static_cast<size_t>(n));
  for (float& v : x) v = awkward(rng, grid);
  return x;
}

struct Columns {
  std::vector<float> floats;
  std::vector<double> doubles;
  Grids grids;

  Columns(const std::vector<Grid>& each) {
    const size_t n = (each.size() + 15) / 16 * 16;
    floats.resize(4 * n);
    doubles.resize(n);
    grids = {&floats[0], &floats[n], doubles.data(), &floats[2 * n], &floats[3 * n]};
    for (size_t i = 0; i < n; ++i) {
      const Grid& g = each[std::min(i, each.size() - 1)];
      grids.scale[i] = g.scale;
      grids.reciprocal[i] = g.reciprocal;
      grids.reciprocal64[i] = g.reciprocal64;
      grids.lowest[i] = g.lowest;
      grids.highest[i] = g.highest;
    }
  }
};

const std::vector<int64_t> kLengths{1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 100, 257, 1000};
const std::vector<Gate> kGates{Gate{}, Gate{0.0f, 6.0f}, Gate{0.0f, kInf}, Gate{-1.0f, 1.0f}};

size_t bytes_for(int64_t n) {
  return static_cast<size_t>((n + 7) / 8);
}

class NoMeeting final : public Meeting {
 public:
  void wait(int) noexcept override {}
};

class TeamMeeting final : public Meeting {
 public:
  void wait(int threads) noexcept override { barrier_.wait(threads); }

 private:
  Barrier barrier_;
};

template <class Body>
int on_team(int threads, const Body& body) {
  struct Context {
    const Body& body;
    int threads;
  } context{body, threads};
  parallel_region(
      threads,
      [](void* data, int tid, int count) noexcept {
        auto& c = *static_cast<Context*>(data);
        if (tid == 0) c.threads = count;
        c.body(tid, count);
      },
      &context);
  return context.threads;
}

}  // namespace

TEST(fake_quant_rounds_as_a_division_in_double) {
  Rng rng(1);
  for (int i = 0; i < 400; ++i) {
    const Grid g = random_grid(rng);
    CHECK(g.vectorizable());
    const float x = awkward(rng, g);
    float y = 0.0f;
    uint8_t passed = 0;
    kernel<Quantize>(Isa::scalar).run(&x, &y, &passed, 1, g, Gate{}, false);
    if (std::isnan(x)) {
      CHECK(std::isnan(y) && passed == 0);
      continue;
    }
    const double k = std::nearbyint(static_cast<double>(x) / static_cast<double>(g.scale));
    const double kept = std::clamp(k, static_cast<double>(g.lowest), static_cast<double>(g.highest));
    CHECK_EQ(y, static_cast<float>(kept) * g.scale);
    CHECK(!std::signbit(y) || y != 0.0f);
    CHECK_EQ(passed != 0, k == kept);
  }
}

TEST(fake_quant_rows_equal_the_scalar_kernel) {
  Rng rng(2);
  for (const int64_t n : kLengths)
    for (int repeat = 0; repeat < 12; ++repeat) {
      const Grid grid = random_grid(rng);
      const Gate gate = rng.pick(kGates);
      Guarded<float> x(awkward_row(rng, grid, n));
      Guarded<float> reference(static_cast<size_t>(n));
      Guarded<uint8_t> bits(bytes_for(n));
      const bool all = kernel<Quantize>(Isa::scalar).run(x.data(), reference.data(), bits.data(), n, grid, gate, false);
      for (const Isa isa : isas()) {
        const auto quantize = kernel<Quantize>(isa);
        Guarded<float> y(static_cast<size_t>(n));
        Guarded<uint8_t> passed(bytes_for(n));
        CHECK_EQ(quantize.run(x.data(), y.data(), passed.data(), n, grid, gate, repeat % 2 == 0), all);
        check_bits(y.values(static_cast<size_t>(n)), reference.values(static_cast<size_t>(n)), quantize.name);
        check_bits(passed.values(bytes_for(n)), bits.values(bytes_for(n)), quantize.name);
        Guarded<float> in_place(x.values(static_cast<size_t>(n)));
        CHECK_EQ(quantize.run(in_place.data(), in_place.data(), nullptr, n, grid, gate, false), all);
        check_bits(in_place.values(static_cast<size_t>(n)), reference.values(static_cast<size_t>(n)), "in place");
      }
    }
}

TEST(fake_quant_columns_equal_the_scalar_kernel) {
  Rng rng(3);
  for (const int64_t n : kLengths) {
    std::vector<Grid> each;
    std::vector<float> values;
    for (int64_t i = 0; i < n; ++i) {
      each.push_back(random_grid(rng));
      values.push_back(awkward(rng, each.back()));
    }
    Columns columns(each);
    Guarded<float> x(values);
    const Gate gate = rng.pick(kGates);
    std::vector<float> expected(static_cast<size_t>(n));
    std::vector<uint8_t> bits(bytes_for(n));
    const bool all =
        kernel<ColumnQuantize>(Isa::scalar).run(x.data(), expected.data(), bits.data(), n, columns.grids, gate);
    for (const Isa isa : isas()) {
      const auto quantize = kernel<ColumnQuantize>(isa);
      Guarded<float> y(static_cast<size_t>(n));
      Guarded<uint8_t> passed(bytes_for(n));
      CHECK_EQ(quantize.run(x.data(), y.data(), passed.data(), n, columns.grids, gate), all);
      check_bits(y.values(static_cast<size_t>(n)), expected, quantize.name);
      check_bits(passed.values(bytes_for(n)), bits, quantize.name);
    }
  }
}

TEST(fake_quant_extremes_of_rows_and_columns) {
  Rng rng(4);
  for (const int64_t n : kLengths)
    for (const bool with_nan : {false, true}) {
      std::vector<float> values(static_cast<size_t>(3 * n));
      for (float& v : values) v = static_cast<float>(rng.real(-5.0, 5.0));
      if (with_nan) values[static_cast<size_t>(rng.integer(0, n - 1))] = kNan;
      Guarded<float> x(values);
      std::vector<float> low(static_cast<size_t>(n), kInf), high(static_cast<size_t>(n), -kInf);
      float lowest = kInf, highest = -kInf;
      for (size_t i = 0; i < values.size(); ++i) {
        const size_t c = i % static_cast<size_t>(n);
        if (std::isnan(values[i])) continue;
        low[c] = std::min(low[c], values[i]);
        high[c] = std::max(high[c], values[i]);
        lowest = std::min(lowest, values[i]);
        highest = std::max(highest, values[i]);
      }
      for (const Isa isa : isas()) {
        float a = kInf, b = -kInf;
        CHECK_EQ(kernel<Extremes>(isa).run(x.data(), 3 * n, &a, &b), !with_nan);
        CHECK_EQ(a, lowest);
        CHECK_EQ(b, highest);
        Guarded<float> lows(std::vector<float>(static_cast<size_t>(n), kInf));
        Guarded<float> highs(std::vector<float>(static_cast<size_t>(n), -kInf));
        CHECK_EQ(kernel<ColumnExtremes>(isa).run(x.data(), 3, n, lows.data(), highs.data()), !with_nan);
        check_bits(lows.values(static_cast<size_t>(n)), low, "low");
        check_bits(highs.values(static_cast<size_t>(n)), high, "high");
      }
    }
}

TEST(fake_quant_masks_keep_what_passed) {
  Rng rng(5);
  for (const int64_t n : kLengths) {
    const auto count = static_cast<size_t>(n);
    std::vector<uint32_t> wide(count), wide_kept(count);
    std::vector<uint16_t> half(count), half_kept(count);
    std::vector<uint8_t> bits(bytes_for(n));
    for (uint8_t& byte : bits) byte = static_cast<uint8_t>(rng.next());
    for (size_t i = 0; i < count; ++i) {
      wide[i] = static_cast<uint32_t>(rng.next());
      half[i] = static_cast<uint16_t>(rng.next());
      const bool passed = (bits[i / 8] >> (i % 8) & 1) != 0;
      wide_kept[i] = passed ? wide[i] : 0;
      half_kept[i] = passed ? half[i] : uint16_t{0};
    }
    for (const Isa isa : isas()) {
      Guarded<uint8_t> passed(bits);
      Guarded<uint32_t> g32(wide), y32(count);
      Guarded<uint16_t> g16(half), y16(count);
      kernel<Mask32>(isa).run(g32.data(), passed.data(), y32.data(), n, true);
      kernel<Mask16>(isa).run(g16.data(), passed.data(), y16.data(), n);
      check_bits(y32.values(count), wide_kept, isa_name(isa));
      check_bits(y16.values(count), half_kept, isa_name(isa));
      kernel<Mask32>(isa).run(g32.data(), passed.data(), g32.data(), n, false);
      check_bits(g32.values(count), wide_kept, "in place");
    }
  }
}

TEST(fake_quant_learning_equals_the_scalar_kernel_with_its_sums) {
  Rng rng(6);
  for (const int64_t n : kLengths)
    for (int repeat = 0; repeat < 6; ++repeat) {
      const auto count = static_cast<size_t>(n);
      const Grid grid = random_grid(rng);
      const Gate gate = rng.pick(kGates);
      std::vector<float> gradient(count);
      for (float& v : gradient) v = static_cast<float>(rng.real(-1.0, 1.0));
      Guarded<float> x(awkward_row(rng, grid, n)), g(gradient);
      std::vector<float> expected(count);
      std::vector<double> sums(3 * kLanes, 0.25), column_sums(3 * ((count + 15) / 16 * 16), 0.25);
      const auto stride = static_cast<int64_t>(column_sums.size() / 3);
      Columns columns(std::vector<Grid>(count, grid));
      kernel<Learn>(Isa::scalar).run(x.data(), g.data(), expected.data(), n, grid, gate, sums.data());
      std::vector<float> expected_columns(count);
      kernel<ColumnLearn>(Isa::scalar)
          .run(x.data(), g.data(), expected_columns.data(), n, columns.grids, column_sums.data(), stride);
      for (const Isa isa : isas()) {
        Guarded<float> gx(count), gc(count);
        std::vector<double> here(3 * kLanes, 0.25), each(column_sums.size(), 0.25);
        kernel<Learn>(isa).run(x.data(), g.data(), gx.data(), n, grid, gate, here.data());
        check_bits(gx.values(count), expected, isa_name(isa));
        check_bits(here, sums, isa_name(isa));
        kernel<ColumnLearn>(isa).run(x.data(), g.data(), gc.data(), n, columns.grids, each.data(), stride);
        check_bits(gc.values(count), expected_columns, isa_name(isa));
        check_bits(each, column_sums, isa_name(isa));
      }
    }
}

TEST(fake_quant_half_types_convert_exactly_and_back) {
  std::vector<uint16_t> all(1 << 16);
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<uint16_t>(i);
  const auto n = static_cast<int64_t>(all.size());
  std::vector<float> brain(all.size()), half(all.size());
  kernel<WidenBrain>(Isa::scalar).run(all.data(), brain.data(), n);
  kernel<WidenHalf>(Isa::scalar).run(all.data(), half.data(), n);
  CHECK_EQ(brain[0x3f80], 1.0f);
  CHECK_EQ(half[0x3c00], 1.0f);
  CHECK_EQ(half[1], 0x1p-24f);
  CHECK_EQ(half[0x7bff], 65504.0f);
  for (const Isa isa : isas()) {
    for (const int64_t count : {n, int64_t{3}, int64_t{17}}) {
      Guarded<uint16_t> from(std::vector<uint16_t>(all.begin(), all.begin() + count));
      Guarded<float> wide(static_cast<size_t>(count));
      Guarded<uint16_t> back(static_cast<size_t>(count));
      kernel<WidenBrain>(isa).run(from.data(), wide.data(), count);
      check_bits(wide.values(static_cast<size_t>(count)), std::vector<float>(brain.begin(), brain.begin() + count), "");
      kernel<NarrowBrain>(isa).run(wide.data(), back.data(), count);
      for (int64_t i = 0; i < count; ++i)
        if (!std::isnan(wide.data()[i])) CHECK_EQ(back.data()[i], from.data()[i]);
      kernel<WidenHalf>(isa).run(from.data(), wide.data(), count);
      for (int64_t i = 0; i < count; ++i)
        CHECK(std::isnan(half[static_cast<size_t>(i)]) ? std::isnan(wide.data()[i])
                                                       : wide.data()[i] == half[static_cast<size_t>(i)]);
      kernel<NarrowHalf>(isa).run(wide.data(), back.data(), count);
      for (int64_t i = 0; i < count; ++i)
        if (!std::isnan(wide.data()[i])) CHECK_EQ(back.data()[i], from.data()[i]);
    }
  }
}

TEST(fake_quant_half_types_round_to_nearest_even) {
  Rng rng(7);
  std::vector<float> x;
  for (int i = 0; i < 5000; ++i) {
    const auto bits = static_cast<uint32_t>(rng.next());
    x.push_back(std::bit_cast<float>(bits));
    x.push_back(std::bit_cast<float>((bits & 0xffff0000u) | 0x8000u));  // a tie of bfloat16
    x.push_back(static_cast<float>(rng.real(-70000.0, 70000.0)));
    x.push_back(static_cast<float>(rng.integer(0, 4000)) * 0x1p-25f);  // ties among half's subnormals
  }
  const auto n = static_cast<int64_t>(x.size());
  std::vector<uint16_t> brain(x.size()), half(x.size());
  kernel<NarrowBrain>(Isa::scalar).run(x.data(), brain.data(), n);
  kernel<NarrowHalf>(Isa::scalar).run(x.data(), half.data(), n);
  for (const Isa isa : isas()) {
    std::vector<uint16_t> y(x.size());
    kernel<NarrowBrain>(isa).run(x.data(), y.data(), n);
    check_bits(y, brain, isa_name(isa));
    kernel<NarrowHalf>(isa).run(x.data(), y.data(), n);
    check_bits(y, half, isa_name(isa));
  }
}

TEST(fake_quant_observed_forward_is_the_same_for_any_team) {
  Rng rng(8);
  const Layout layouts[] = {
      {Element::f32, 1, 1, 50000}, {Element::f32, 1, 5, 9000}, {Element::f32, 3, 7, 33}, {Element::f32, 900, 19, 1}};
  for (const Layout& layout : layouts) {
    const auto n = static_cast<size_t>(layout.count()), channels = static_cast<size_t>(layout.channels);
    std::vector<float> x(n);
    for (float& v : x) v = static_cast<float>(rng.real(-3.0, 5.0));
    std::vector<float> first_y, first_scale;
    std::vector<uint8_t> first_bits;
    std::vector<double> first_sums;
    for (const Isa isa : isas())
      for (const int threads : {1, 2, 5}) {
        std::vector<float> low(channels, -2.0f), high(channels, 3.0f), scale(channels), y(n), gx(n);
        std::vector<int32_t> zero_point(channels);
        std::vector<uint8_t> bits(static_cast<size_t>(layout.mask_bytes()));
        std::vector<double> sums(3 * channels);
        const Statistics statistics{low.data(), high.data(), true, 0.25f, false, 0, 1e-7f};
        const QParamState state{scale.data(), zero_point.data()};
        Forward forward(layout, Integers{0, 255}, Gate{}, state, &statistics, nullptr, isa, threads);
        TeamMeeting meeting;
        on_team(threads, [&](int tid, int count) noexcept {
          forward.run(x.data(), y.data(), bits.data(), tid, count, meeting);
        });
        CHECK(forward.outcome() == Outcome::some_blocked);
        LearnBackward learn(layout, Integers{0, 255}, Gate{}, state, isa);
        on_team(threads, [&](int tid, int count) noexcept { learn.run(x.data(), y.data(), gx.data(), tid, count); });
        learn.result(sums.data());
        const Backward backward(layout, isa);
        std::vector<float> masked(y);
        on_team(threads, [&](int tid, int count) noexcept {
          backward.run(masked.data(), bits.data(), masked.data(), tid, count);
        });
        check_bits(masked, gx, "both gradients");
        if (first_y.empty()) {
          first_y = y, first_scale = scale, first_bits = bits, first_sums = sums;
          CHECK(std::abs(low[0] + 2.25f) < 0.02f);
        }
        check_bits(y, first_y, isa_name(isa));
        check_bits(scale, first_scale, isa_name(isa));
        check_bits(bits, first_bits, isa_name(isa));
        check_bits(sums, first_sums, isa_name(isa));
      }
  }
}

TEST(fake_quant_values_that_are_not_finite_change_nothing) {
  NoMeeting alone;
  for (const float bad : {kNan, kInf, -kInf})
    for (const Isa isa : isas()) {
      std::vector<float> x(100, 1.0f), y(100, 7.0f);
      x[77] = bad;
      float low = -1.0f, high = 1.0f, scale = 0.5f;
      int32_t zero_point = 3;
      const Statistics statistics{&low, &high, false, 0.0f, false, 0, 1e-7f};
      const Layout layout{Element::f32, 1, 1, 100};
      Forward forward(layout, Integers{0, 255}, Gate{}, QParamState{&scale, &zero_point}, &statistics, nullptr, isa, 1);
      forward.run(x.data(), y.data(), nullptr, 0, 1, alone);
      CHECK(forward.outcome() == Outcome::not_finite);
      CHECK_EQ(low, -1.0f);
      CHECK_EQ(scale, 0.5f);
      CHECK_EQ(y[0], 7.0f);
    }
}

TEST(fake_quant_grids_that_vectors_cannot_take_run_on_the_scalar_kernel) {
  NoMeeting alone;
  for (float scale : {0x1p-130f, 0x1p+110f})
    for (const Isa isa : isas()) {
      CHECK(!Grid::of(scale, 0, -128, 127).vectorizable());
      const float x = 3.0f * scale;
      float y = 0.0f;
      int32_t zero_point = 0;
      const Layout layout{Element::f32, 1, 1, 1};
      Forward forward(layout, Integers{-128, 127}, Gate{}, QParamState{&scale, &zero_point}, nullptr, nullptr, isa, 1);
      forward.run(&x, &y, nullptr, 0, 1, alone);
      CHECK_EQ(y, x);
      CHECK(forward.outcome() == Outcome::all_passed);
    }
}
