#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "gemm/matmul.h"
#include "harness.h"
#include "kernel_models.h"
#include "tile_model.h"

using namespace qfx;
using test::GuardedBuffer;
using test::Rng;
using test::RunsOn;

namespace {

// Which of an operand's dims is innermost in memory.
enum class Order { rows, columns, neither };

struct Sample {
  std::vector<int64_t> batch;
  std::vector<int> x_broadcast, y_broadcast;  // of each batch dim: whether the operand has length 1 there
  int64_t m = 1, k = 1, n = 1;
  Order y_order = Order::rows;
  bool interleaved = false;  // x and the result have their innermost batch dim between rows and columns
  MatmulQuant quant;
  bool extreme = false;
};

// Strides of [batch..., m, k] where the given batch dims are there.
struct Layout {
  std::vector<int64_t> batch;
  int64_t row = 0, col = 0, size = 0;
};

Layout layout(const Sample& s, const std::vector<int>& broadcast, int64_t rows, int64_t columns, Order order,
              bool interleaved) {
  Layout l;
  const size_t rank = s.batch.size();
  l.batch.assign(rank, 0);
  const auto present = [&](size_t d) { return broadcast.empty() || broadcast[d] == 0; };
  int64_t step = 1;
  l.col = order == Order::columns ? rows : (order == Order::neither ? 3 : 1);
  step = order == Order::columns ? 1 : columns * l.col;
  const bool between = interleaved && rank > 0 && present(rank - 1);
  if (between) {
    l.batch[rank - 1] = step;
    step *= s.batch[rank - 1];
  }
  l.row = step;
  step = order == Order::columns ? rows * columns : step * rows;
  for (size_t d = rank - (between ? 1 : 0); d-- > 0;) {
    if (!present(d)) continue;
    l.batch[d] = step;
    step *= s.batch[d];
  }
  l.size = step;
  return l;
}

struct Operands {
  Layout x, y, out;
  MatmulShape shape;
  std::unique_ptr<GuardedBuffer> left, right;
};

Operands make_operands(const Sample& s, Rng& rng) {
  Operands o;
  o.x = layout(s, s.x_broadcast, s.m, s.k, Order::rows, s.interleaved);
  o.y = layout(s, s.y_broadcast, s.k, s.n, s.y_order, false);
  o.out = layout(s, {}, s.m, s.n, Order::rows, s.interleaved);
  o.shape = {s.m, s.k, s.n, o.x.row, o.y.row, o.y.col, o.out.row, s.batch, o.x.batch, o.y.batch, o.out.batch};
  o.left = std::make_unique<GuardedBuffer>(static_cast<size_t>(o.x.size), 64);
  o.right = std::make_unique<GuardedBuffer>(static_cast<size_t>(o.y.size));
  o.left->fill(rng);
  o.right->fill(rng);
  if (s.extreme) o.left->fill(uint8_t{255}), o.right->fill(static_cast<uint8_t>(s.quant.y_zero_point < 128 ? 255 : 0));
  return o;
}

// By the definition, from exact 64-bit sums.
std::vector<uint8_t> expected(const Sample& s, const Operands& o) {
  const MatmulQuant& q = s.quant;
  const size_t element = q.f32_output ? 4 : 1;
  std::vector<uint8_t> bytes(static_cast<size_t>(o.out.size) * element);
  int64_t count = 1;
  for (const int64_t size : s.batch) count *= size;
  for (int64_t b = 0; b < count; ++b) {
    int64_t x = 0, y = 0, at = 0, rest = b;
    for (size_t d = s.batch.size(); d-- > 0; rest /= s.batch[d]) {
      const int64_t i = rest % s.batch[d];
      x += i * o.x.batch[d], y += i * o.y.batch[d], at += i * o.out.batch[d];
    }
    for (int64_t i = 0; i < s.m; ++i) {
      for (int64_t j = 0; j < s.n; ++j) {
        int64_t acc = 0;
        for (int64_t p = 0; p < s.k; ++p) {
          const int64_t a = o.left->data()[x + i * o.x.row + p] - q.x_zero_point;
          acc += a * (o.right->data()[y + p * o.y.row + j * o.y.col] - q.y_zero_point);
        }
        const float v = static_cast<float>(acc) * q.multiplier;
        const auto to = static_cast<size_t>(at + i * o.out.row + j);
        if (q.f32_output) {
          const float clamped = std::min(std::max(v, q.f32_lo), q.f32_hi);
          std::memcpy(bytes.data() + 4 * to, &clamped, 4);
        } else {
          const auto rounded = static_cast<int64_t>(std::nearbyint(std::clamp(v, -65536.0f, 65536.0f)));
          const int64_t code = std::clamp<int64_t>(rounded + q.zero_point, q.lo, q.hi);
          bytes[to] = q.lut.empty() ? static_cast<uint8_t>(code) : q.lut[static_cast<size_t>(code)];
        }
      }
    }
  }
  return bytes;
}

std::string text(const Sample& s) {
  std::string t = "batch";
  for (const int64_t size : s.batch) t += " " + std::to_string(size);
  return t + " m " + std::to_string(s.m) + " k " + std::to_string(s.k) + " n " + std::to_string(s.n) + " order " +
         std::to_string(static_cast<int>(s.y_order)) + (s.interleaved ? " interleaved" : "") + " zx " +
         std::to_string(s.quant.x_zero_point) + " zy " + std::to_string(s.quant.y_zero_point) +
         (s.quant.f32_output ? " f32" : "") + (s.quant.lut.empty() ? "" : " lut");
}

void check(const Sample& s, const Operands& o, const std::vector<uint8_t>& want, const Work& work, int threads) {
  GuardedBuffer y(want.size());
  y.fill(uint8_t{0x5c});
  test::run(work, {o.left->data(), o.right->data()}, {y.data()}, threads);
  if (tile::model().configured()) throw test::Failure("tiles left configured: " + work.describe());
  if (!y.intact()) throw test::Failure("a write in front of the result: " + work.describe());
  for (size_t i = 0; i < want.size(); ++i) {
    if (y.data()[i] == want[i]) continue;
    throw test::Failure(work.describe() + ", " + std::to_string(threads) + " threads: byte " + std::to_string(i) +
                        " is " + std::to_string(y.data()[i]) + ", expected " + std::to_string(want[i]) + "; " +
                        text(s));
  }
}

// Every kernel that this CPU has or runs a model of, and what is chosen for each level.
void check_sample(const Sample& s, Rng& rng) {
  const Operands o = make_operands(s, rng);
  const auto want = expected(s, o);
  for (const auto& kernel : test::runnable_gemm_kernels()) {
    const RunsOn where = test::runs_on(kernel.isa);
    if (where == RunsOn::nowhere || kernel.packing == gemm::Packing::paired) continue;
    const auto work = gemm::plan_matmul_gemm(kernel, s.quant, o.shape, test::runnable_gemm_kernels());
    for (int threads : where == RunsOn::model ? std::vector{2} : std::vector{1, 2, 5})
      check(s, o, want, *work, threads);
  }
  for (Isa isa : test::isas()) check(s, o, want, *plan_matmul(s.quant, o.shape, isa), 3);
}

MatmulQuant random_quant(Rng& rng, int64_t k) {
  MatmulQuant q;
  q.x_zero_point = static_cast<int32_t>(rng.pick<int64_t>({0, 255, 128, rng.integer(0, 255)}));
  q.y_zero_point = static_cast<int32_t>(rng.pick<int64_t>({128, 0, 255, 127, rng.integer(0, 255)}));
  q.zero_point = static_cast<int32_t>(rng.integer(0, 255));
  q.multiplier = static_cast<float>(rng.real(0.2, 2.0) / (74.0 * std::sqrt(static_cast<double>(k))));
  q.f32_output = rng.integer(0, 3) == 0;
  if (q.f32_output) {
    if (rng.integer(0, 1) == 1) q.f32_lo = -0.5f, q.f32_hi = 3.0f;
    return q;
  }
  if (rng.integer(0, 1) == 1) {
    q.lo = static_cast<int32_t>(rng.integer(0, 128));
    q.hi = static_cast<int32_t>(rng.integer(q.lo, 255));
  }
  if (rng.integer(0, 2) == 0)
    for (int i = 0; i < 256; ++i) q.lut.push_back(static_cast<uint8_t>(rng.integer(0, 255)));
  return q;
}

}  // namespace

TEST(matmul_sizes_around_every_tile) {
  Rng rng(1);
  for (const int64_t n : {1, 5, 8, 15, 16, 17, 24, 31, 48, 63, 64, 65, 100}) {
    for (const int64_t m : {1, 2, 13, 33}) {
      Sample s;
      s.m = m;
      s.n = n;
      s.k = rng.pick<int64_t>({1, 3, 4, 7, 8, 16, 17, 63, 64, 65, 100});
      s.y_order = rng.pick<Order>({Order::rows, Order::columns, Order::neither});
      s.quant = random_quant(rng, s.k);
      check_sample(s, rng);
    }
  }
}

TEST(matmul_batches_broadcast_and_lie_in_any_order) {
  Rng rng(2);
  const std::vector<std::vector<int>> broadcasts = {{}, {1, 0}, {0, 1}, {1, 1}};
  for (int i = 0; i < 24; ++i) {
    Sample s;
    s.batch = {rng.integer(1, 3), rng.integer(1, 3)};
    s.x_broadcast = rng.pick(broadcasts);
    s.y_broadcast = rng.pick(broadcasts);
    s.m = rng.integer(1, 20);
    s.k = rng.integer(1, 40);
    s.n = rng.integer(1, 70);
    s.y_order = rng.pick<Order>({Order::rows, Order::columns});
    s.interleaved = rng.integer(0, 1) == 1;
    s.quant = random_quant(rng, s.k);
    check_sample(s, rng);
  }
}

TEST(matmul_sums_at_their_limit_are_exact) {
  Rng rng(3);
  for (const int32_t zero_point : {0, 255}) {
    Sample s;
    s.m = 3;
    s.k = 33025;
    s.n = 9;
    s.extreme = true;
    s.quant.y_zero_point = zero_point;
    s.quant.multiplier = 1e-7f;
    s.quant.zero_point = 20;
    check_sample(s, rng);
    s.quant.f32_output = true;
    s.quant.multiplier = 1.0f;
    check_sample(s, rng);
  }
}

TEST(matmul_without_elements) {
  Rng rng(4);
  for (int empty = 0; empty < 4; ++empty) {
    Sample s;
    s.batch = {empty == 3 ? 0 : 2};
    s.m = empty == 0 ? 0 : 3;
    s.k = empty == 1 ? 0 : 4;
    s.n = empty == 2 ? 0 : 5;
    s.quant.zero_point = 77;
    s.quant.multiplier = 0.1f;
    check_sample(s, rng);
  }
}

TEST(matmul_refuses_what_it_could_not_compute) {
  MatmulQuant q;
  MatmulShape s;
  s.m = s.n = 1;
  s.k = s.x_row = 33026;
  s.y_row = s.y_col = s.out_row = 1;
  CHECK_THROWS(std::invalid_argument, plan_matmul(q, s, Isa::scalar));
  s.k = 4;
  plan_matmul(q, s, Isa::scalar);
  q.y_zero_point = 256;
  CHECK_THROWS(std::invalid_argument, plan_matmul(q, s, Isa::scalar));
  q.y_zero_point = 0;
  s.batch = {2};
  CHECK_THROWS(std::invalid_argument, plan_matmul(q, s, Isa::scalar));
}
