#include <atomic>
#include <cstdlib>
#include <new>
#include <numeric>
#include <thread>

#include "harness.h"
#include "runtime/errors.h"
#include "runtime/executable.h"

using namespace qfx;

namespace {

std::atomic<int64_t> allocations{0};

}  // namespace

#ifndef __SANITIZE_ADDRESS__  // which counts on pairing its own operators
// gcc sees the inlined free without the malloc that it belongs to.
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"
// Counted here for the whole test program; the array and nothrow forms go through this one.
void* operator new(size_t bytes) {
  ++allocations;
  if (void* memory = std::malloc(bytes == 0 ? 1 : bytes)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, size_t) noexcept {
  std::free(memory);
}
#endif

namespace {

Step lookup_step(const char* name, int input, int output, int table) {
  Step s;
  s.op = "lookup";
  s.name = name;
  s.inputs = {input};
  s.outputs = {output};
  s.constants["table"] = table;
  return s;
}

int shift_table(ProgramBuilder& b, int shift) {
  std::vector<uint8_t> table(256);
  for (int i = 0; i < 256; ++i) table[i] = static_cast<uint8_t>(i + shift);
  return b.constant(DType::u8, {256}, table.data());
}

Step conv_step(ProgramBuilder& b, const char* name, std::vector<int> inputs, int output, int64_t channels) {
  const std::vector<int8_t> weight(static_cast<size_t>(channels * 9 * channels), 1);
  const std::vector<int32_t> bias(static_cast<size_t>(channels), 5);
  const std::vector<float> multiplier(static_cast<size_t>(channels), 0.01f);
  Step s;
  s.op = "conv";
  s.name = name;
  s.inputs = std::move(inputs);
  s.outputs = {output};
  s.ints = {{"x_zero_point", {3}}, {"zero_point", {4}}, {"padding_lo", {1, 1}}, {"padding_hi", {1, 1}}};
  s.constants = {{"weight", b.constant(DType::s8, {channels, 3, 3, channels}, weight.data())},
                 {"bias", b.constant(DType::s32, {channels}, bias.data())},
                 {"multiplier", b.constant(DType::f32, {channels}, multiplier.data())}};
  if (s.inputs.size() == 2) {
    s.ints["residual_zero_point"] = {4};
    s.floats["residual_multiplier"] = {0.5};
  }
  return s;
}

// conv, three blocks of conv + residual conv, so that buffers are reused while others are live.
std::shared_ptr<const Program> residual_network(int64_t channels) {
  ProgramBuilder b;
  const Dims shape = {-1, -1, -1, channels};
  const int x = b.value("x", DType::u8, shape);
  int h = b.value("stem", DType::u8, shape);
  b.step(conv_step(b, "stem", {x}, h, channels));
  for (int i = 0; i < 3; ++i) {
    const int inner = b.value("inner", DType::u8, shape), y = b.value("y", DType::u8, shape);
    b.step(conv_step(b, "inner", {h}, inner, channels));
    b.step(conv_step(b, "outer", {inner, h}, y, channels));
    h = y;
  }
  return b.build({x}, {h});
}

std::vector<uint8_t> forward(Executable& exe, const std::vector<uint8_t>& x, const Dims& shape, int threads) {
  const auto plan = exe.plan({{shape, {shape[1] * shape[2] * shape[3], shape[2] * shape[3], shape[3], 1}}});
  std::vector<uint8_t> y(x.size());
  const void* in[] = {x.data()};
  void* out[] = {y.data()};
  exe.run(*plan, in, out, threads);
  return y;
}

std::vector<uint8_t> codes(size_t n, uint64_t seed) {
  test::Rng rng(seed);
  std::vector<uint8_t> x(n);
  for (uint8_t& v : x) v = static_cast<uint8_t>(rng.integer(0, 20));
  return x;
}

}  // namespace

TEST(program_without_an_output_is_refused) {
  ProgramBuilder b;
  const int x = b.value("x", DType::u8, {-1});
  CHECK_THROWS(ProgramError, b.build({x}, {}));
}

TEST(program_names_the_step_that_is_wrong) {
  ProgramBuilder b;
  const int x = b.value("x", DType::u8, {-1}), y = b.value("y", DType::u8, {-1});
  const int table = shift_table(b, 1);
  b.step(lookup_step("fine", x, y, table));
  b.step(lookup_step("broken", 99, 98, table));
  try {
    b.build({x}, {y});
    CHECK(false);
  } catch (const ProgramError& error) {
    CHECK_EQ(error.where(), std::string("broken"));
  }
}

TEST(executable_shifts_bytes) {
  ProgramBuilder b;
  const int x = b.value("x", DType::u8, {-1}), y = b.value("y", DType::u8, {-1}), z = b.value("z", DType::u8, {-1});
  b.step(lookup_step("one", x, y, shift_table(b, 1)));
  b.step(lookup_step("two", y, z, shift_table(b, 2)));
  Executable exe(b.build({x}, {z}), Isa::scalar);
  const auto plan = exe.plan({{{5}, {1}}});
  const uint8_t input[5] = {0, 1, 2, 254, 255};
  uint8_t output[5] = {};
  const void* in[] = {input};
  void* out[] = {output};
  exe.run(*plan, in, out, 1);
  const uint8_t expected[5] = {3, 4, 5, 1, 2};
  for (int i = 0; i < 5; ++i) CHECK_EQ(output[i], expected[i]);
}

TEST(executable_is_the_same_for_every_isa_and_team) {
  const auto program = residual_network(16);
  const Dims shape = {2, 9, 7, 16};
  const auto x = codes(2 * 9 * 7 * 16, 3);
  Executable reference(program, Isa::scalar);
  const auto expected = forward(reference, x, shape, 1);
  for (const Isa isa : test::isas()) {
    Executable exe(program, isa);
    for (int threads : {1, 2, 3, 5}) CHECK(forward(exe, x, shape, threads) == expected);
  }
}

TEST(executable_runs_from_many_threads_at_once) {
  Executable exe(residual_network(32), test::isas().back());
  std::vector<std::vector<uint8_t>> inputs, expected;
  const Dims shapes[] = {{1, 20, 20, 32}, {2, 13, 20, 32}, {5, 56, 56, 32}};  // the last one in slices
  for (int i = 0; i < 6; ++i) {
    const Dims& s = shapes[i % 3];
    inputs.push_back(codes(static_cast<size_t>(s[0] * s[1] * s[2] * s[3]), 10 + i));
    expected.push_back(forward(exe, inputs.back(), s, 1));
  }
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (int i = 0; i < 6; ++i) {
    callers.emplace_back([&, i] {
      for (int round = 0; round < 10; ++round) wrong += forward(exe, inputs[i], shapes[i % 3], 2) != expected[i];
    });
  }
  for (std::thread& t : callers) t.join();
  CHECK_EQ(wrong.load(), 0);
}

TEST(executable_visits_values_of_a_run_without_reuse) {
  const auto program = residual_network(16);
  Executable exe(program, test::isas().back());
  const auto x = codes(9 * 7 * 16, 4);
  std::vector<uint8_t> y(x.size());
  const void* in[] = {x.data()};
  void* out[] = {y.data()};
  std::vector<int> ids(program->values().size() - 1);
  std::iota(ids.begin(), ids.end(), 1);
  std::vector<std::vector<uint8_t>> seen;
  exe.run_and_visit({{{1, 9, 7, 16}, {1008, 112, 16, 1}}}, in, out, ids, 2, [&](int, const Dims&, const void* data) {
    const auto* bytes = static_cast<const uint8_t*>(data);
    seen.emplace_back(bytes, bytes + x.size());
  });
  CHECK_EQ(seen.size(), ids.size());
  CHECK(seen.back() == y);
  CHECK(forward(exe, x, {1, 9, 7, 16}, 1) == y);
}

TEST(executable_refuses_inputs_that_do_not_fit) {
  Executable exe(residual_network(16), Isa::scalar);
  CHECK_THROWS(InputError, exe.plan({}));
  CHECK_THROWS(InputError, exe.plan({{{9, 7, 16}, {112, 16, 1}}}));
  CHECK_THROWS(InputError, exe.plan({{{1, 9, 7, 15}, {945, 105, 15, 1}}}));
  CHECK_THROWS(InputError, exe.plan({{{1, 9, 7, 16}, {112, 16, 1}}}));
  CHECK_THROWS(InputError, exe.plan({{{1, -9, 7, 16}, {1008, 112, 16, 1}}}));
  CHECK_THROWS(InputError, exe.plan({{{int64_t{1} << 40, 1 << 20, 7, 16}, {1008, 112, 16, 1}}}));
}

TEST(executable_run_does_not_allocate) {
  Executable exe(residual_network(16), test::isas().back());
  for (const int64_t images : {2, 75}) {
    const auto plan = exe.plan({{{images, 20, 20, 16}, {6400, 320, 16, 1}}});
    CHECK_EQ(plan->slices != nullptr, images == 75);
    const auto x = codes(static_cast<size_t>(images) * 20 * 20 * 16, 5);
    std::vector<uint8_t> y(x.size());
    const void* in[] = {x.data()};
    void* out[] = {y.data()};
    for (int threads : {1, 2}) {
      exe.run(*plan, in, out, threads);
      const int64_t before = allocations.load();
      for (int round = 0; round < 5; ++round) exe.run(*plan, in, out, threads);
      CHECK_EQ(allocations.load(), before);
    }
  }
}
