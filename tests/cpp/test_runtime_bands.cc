#include <algorithm>
#include <memory>
#include <string>

#include "harness.h"
#include "runtime/bands.h"
#include "runtime/executable.h"
#include "runtime/planner.h"

using namespace qfx;

namespace {

constexpr int64_t kChannels = 8;

// Networks over images of any size: quantize, then what the calls ask for.
class Net {
 public:
  explicit Net(uint64_t seed) : rng_(seed) {
    x_ = b_.value("x", DType::f32, {-1, kChannels, -1, -1});
    last = value();
    Step s = step("quantize", {x_}, last);
    s.ints = {{"perm", {0, 2, 3, 1}}, {"zero_point", {7}}};
    s.floats = {{"scale", {0.02}}};
    b_.step(s);
  }

  int last;

  int64_t any(int64_t least, int64_t most) { return rng_.integer(least, most); }

  int conv(int64_t kernel, int64_t stride, int64_t dilation, int64_t lo, int64_t hi, int64_t groups) {
    std::vector<int8_t> weight(static_cast<size_t>(kChannels * kernel * kernel * kChannels / groups));
    for (int8_t& w : weight) w = static_cast<int8_t>(rng_.integer(-100, 100));
    const std::vector<int32_t> bias(kChannels, 50);
    const std::vector<float> multiplier(kChannels, 0.006f);
    Step s = step("conv", {last}, value());
    s.ints = {{"stride", {stride, 1}},
              {"dilation", {dilation, 1}},
              {"padding_lo", {lo, kernel / 2}},
              {"padding_hi", {hi, kernel / 2}},
              {"groups", {groups}},
              {"x_zero_point", {7}},
              {"zero_point", {7}}};
    const Dims shape = {kChannels, kernel, kernel, kChannels / groups};
    s.constants = {{"weight", b_.constant(DType::s8, shape, weight.data())},
                   {"bias", b_.constant(DType::s32, {kChannels}, bias.data())},
                   {"multiplier", b_.constant(DType::f32, {kChannels}, multiplier.data())}};
    return add(s);
  }

  int pool(const char* op, int64_t kernel, int64_t stride, int64_t lo, int64_t hi, bool ceil_mode) {
    Step s = step(op, {last}, value());
    s.ints = {{"kernel", {kernel, 2}},
              {"stride", {stride, 1}},
              {"padding_lo", {lo, 0}},
              {"padding_hi", {hi, 0}},
              {"ceil_mode", {ceil_mode ? 1 : 0}}};
    if (s.op == "avg_pool") {
      s.ints["count_include_pad"] = {any(0, 1)};
      s.ints["x_zero_point"] = s.ints["zero_point"] = {7};
      s.floats["ratio"] = {1.25};
    }
    return add(s);
  }

  int sum(int a, int b) {
    Step s = step("add", {a, b}, value());
    s.ints = {{"a_zero_point", {7}}, {"b_zero_point", {7}}, {"zero_point", {7}}};
    s.floats = {{"a_multiplier", {0.75}}, {"b_multiplier", {0.5}}};
    return add(s);
  }

  std::shared_ptr<const Program> build() { return b_.build({x_}, {last}); }

 private:
  int value() { return b_.value("v" + std::to_string(count_++), DType::u8, {-1, -1, -1, kChannels}); }
  int add(const Step& s) {
    b_.step(s);
    return last = s.output();
  }

  static Step step(const char* op, std::vector<int> inputs, int output) {
    Step s;
    s.op = op;
    s.name = op + std::to_string(output);
    s.inputs = std::move(inputs);
    s.outputs = {output};
    return s;
  }

  test::Rng rng_;
  ProgramBuilder b_;
  int x_ = -1, count_ = 0;
};

std::vector<InputLayout> image(int64_t height, int64_t width) {
  return {{{1, kChannels, height, width}, {kChannels * height * width, height * width, width, 1}}};
}

// The plan with bands of whatever is larger than `cached` bytes gives what the plan without bands does. Returns how
// many bands there are.
size_t check_bands(Executable& exe, const std::shared_ptr<const LoadedProgram>& loaded, int64_t height, int64_t width,
                   int64_t cached) {
  const auto inputs = image(height, width);
  const Plan whole = make_plan(loaded, inputs, {.bands = false});
  const Plan bands = make_plan(loaded, inputs, {.cached_bytes = cached});
  CHECK(whole.slices == nullptr);
  test::Rng rng(static_cast<uint64_t>(height));
  std::vector<float> x(static_cast<size_t>(kChannels * height * width));
  for (float& v : x) v = static_cast<float>(rng.integer(-100, 220)) * 0.02f;
  const auto size = static_cast<size_t>(element_count(whole.output_shapes[0]));
  std::vector<uint8_t> expected(size), y(size);
  const void* in[] = {x.data()};
  void* first[] = {expected.data()};
  void* out[] = {y.data()};
  exe.run(whole, in, first, 1);
  for (const int threads : {1, 2, 3}) {
    std::fill(y.begin(), y.end(), uint8_t{0});
    exe.run(bands, in, out, threads);
    CHECK(y == expected);
  }
  return bands.slices == nullptr ? 0 : bands.slices->parts.size();
}

struct Loaded {
  explicit Loaded(const std::shared_ptr<const Program>& program, Isa isa = test::isas().back())
      : exe(program, isa), loaded(std::make_shared<const LoadedProgram>(program, isa)) {}

  Executable exe;
  std::shared_ptr<const LoadedProgram> loaded;
};

}  // namespace

TEST(bands_of_every_height) {
  Net net(1);
  net.conv(3, 2, 1, 1, 1, 1);
  const int block = net.conv(3, 1, 1, 1, 1, kChannels);
  net.conv(1, 1, 1, 0, 0, 1);
  net.sum(block, net.last);
  net.conv(5, 2, 1, 2, 2, kChannels);
  net.pool("max_pool", 3, 2, 1, 1, true);
  const auto program = net.build();
  for (const Isa isa : {Isa::scalar, test::isas().back()}) {
    Loaded l(program, isa);
    for (int64_t height = 24; height < 60; ++height) CHECK(check_bands(l.exe, l.loaded, height, 20, 1024) > 1);
  }
}

TEST(bands_of_random_windows) {
  size_t banded = 0;
  for (uint64_t seed = 0; seed < 120; ++seed) {
    Net net(seed);
    for (int64_t steps = net.any(2, 6); steps > 0; --steps) {
      const int before = net.last;
      const int64_t kernel = net.any(1, 4), reach = kernel - 1;
      switch (net.any(0, 4)) {
        case 0:
          net.conv(kernel, net.any(1, 2), net.any(1, 2), net.any(0, 2), net.any(0, 2), 1);
          break;
        case 1:
          net.conv(3, net.any(1, 2), 1, net.any(0, 1), net.any(0, 1), kChannels);
          break;
        case 2:
          net.pool("max_pool", kernel, net.any(1, 3), net.any(0, reach), net.any(0, reach), net.any(0, 1));
          break;
        case 3:
          net.pool("avg_pool", kernel, net.any(1, 3), net.any(0, reach), net.any(0, reach), net.any(0, 1));
          break;
        default: {
          const int side = net.conv(3, 1, 1, 1, 1, 1);
          net.sum(before, side);
        }
      }
    }
    Loaded l(net.build());
    banded += check_bands(l.exe, l.loaded, net.any(60, 90), net.any(9, 24), net.any(512, 4096)) > 1;
  }
  CHECK(banded > 60);
}

TEST(bands_only_where_values_leave_the_caches) {
  Net net(3);
  net.conv(1, 1, 1, 0, 0, 1);
  net.conv(3, 1, 1, 1, 1, kChannels);
  Loaded l(net.build());
  CHECK(!choose_bands(*l.loaded, image(100, 100), 100 * 100 * kChannels * 4));
  CHECK(choose_bands(*l.loaded, image(100, 100), 100 * 100 * kChannels / 2).has_value());
  CHECK(!choose_bands(*l.loaded, {{{{2, kChannels, 9, 9}, {648, 81, 9, 1}}}}, 1));  // slices of the batch are for that
}

TEST(bands_at_the_borders_have_plans_of_their_own) {
  Net net(4);
  net.pool("max_pool", 3, 1, 1, 1, false);
  const int whole = net.last;
  Loaded l(net.build());
  const auto choice = choose_bands(*l.loaded, image(64, 64), 16384);
  CHECK(choice.has_value());
  CHECK_EQ(choice->value, whole);
  const auto top = band_of(*l.loaded, *choice, {0, 4}), middle = band_of(*l.loaded, *choice, {8, 12}),
             next = band_of(*l.loaded, *choice, {12, 16}), bottom = band_of(*l.loaded, *choice, {60, 64});
  CHECK(middle->has_plan_of(*next));
  CHECK(!middle->has_plan_of(*top) && !middle->has_plan_of(*bottom) && !top->has_plan_of(*bottom));
  CHECK_EQ(top->padding[1].lo, 1);
  CHECK_EQ(middle->padding[1].lo, 0);
  CHECK_EQ(bottom->padding[1].hi, 1);
  CHECK_EQ(middle->operands[1][0].count(), 6);
}
