#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <limits>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>

#include "harness.h"
#include "runtime/arena.h"
#include "runtime/buffer.h"
#include "runtime/expr.h"
#include "runtime/shapes.h"
#include "runtime/threads.h"

using namespace qfx;

TEST(expr_arithmetic) {
  const std::vector<Dims> shapes = {{7, 3}};
  const std::vector<Expr> e = {{ExprKind::dim, 0, 0},      {ExprKind::constant, -2, 0}, {ExprKind::add, 0, 1},
                               {ExprKind::sub, 1, 0},      {ExprKind::mul, 0, 1},       {ExprKind::floordiv, 0, 1},
                               {ExprKind::floordiv, 1, 0}, {ExprKind::neg, 4, 0}};
  const int64_t expected[] = {7, -2, 5, -9, -14, -4, -1, 14};
  for (int i = 0; i < 8; ++i) CHECK_EQ(evaluate(e, i, shapes), expected[i]);
}

TEST(expr_failures) {
  const int64_t least = std::numeric_limits<int64_t>::min();
  const std::vector<Expr> e = {{ExprKind::constant, least, 0}, {ExprKind::constant, -1, 0}, {ExprKind::constant, 0, 0},
                               {ExprKind::add, 0, 1},          {ExprKind::mul, 0, 1},       {ExprKind::neg, 0, 0},
                               {ExprKind::floordiv, 0, 1},     {ExprKind::floordiv, 0, 2}};
  for (int i = 3; i < 8; ++i) CHECK_THROWS(std::invalid_argument, evaluate(e, i, {}));
}

TEST(expr_unused_nodes_are_not_evaluated) {
  const std::vector<Expr> e = {{ExprKind::constant, 0, 0}, {ExprKind::floordiv, 0, 0}, {ExprKind::constant, 3, 0}};
  CHECK_EQ(evaluate(e, 2, {}), 3);
}

TEST(expr_values_are_those_that_are_read) {
  const std::vector<Expr> e = {{ExprKind::dim, 4, 0}, {ExprKind::dim, 9, 1}, {ExprKind::neg, 1, 0}};
  CHECK(expr_values(e, 2) == std::vector<int>{9});
}

TEST(shapes_count) {
  CHECK_EQ(element_count(Dims{2, 3, 4}), 24);
  CHECK_EQ(element_count(Dims{}), 1);
  CHECK_EQ(element_count(Dims{int64_t{1} << 60, 0, int64_t{1} << 60}), 0);
  CHECK_THROWS(std::invalid_argument, element_count(Dims{int64_t{1} << 40, int64_t{1} << 40}));
  CHECK_THROWS(std::invalid_argument, element_count(Dims{-1, 2}));
}

TEST(shapes_dense) {
  CHECK(is_dense({2, 3, 4}, {12, 4, 1}));
  CHECK(is_dense({2, 1, 4}, {4, 77, 1}));
  CHECK(is_dense({0, 3}, {5, 5}));
  CHECK(!is_dense({2, 3, 4}, {12, 1, 3}));
  Dims strides = {9, 77, 1};
  canonicalize_strides({2, 1, 4}, strides);
  CHECK(strides == (Dims{9, 4, 1}));
}

TEST(shapes_broadcast) {
  CHECK(broadcast({2, 1, 4}, {3, 1}) == (Dims{2, 3, 4}));
  CHECK(broadcast({0, 1}, {1, 5}) == (Dims{0, 5}));
  CHECK_THROWS(std::invalid_argument, broadcast({2, 3}, {4, 3}));
}

// Against the definition: the largest number of windows that start inside input and left padding.
TEST(shapes_window_output) {
  for (int64_t in = 0; in < 12; ++in)
    for (int64_t kernel = 1; kernel < 4; ++kernel)
      for (int64_t stride = 1; stride < 4; ++stride)
        for (int64_t pad = 0; pad <= kernel / 2; ++pad) {
          if (in + 2 * pad < kernel) {
            CHECK_THROWS(std::invalid_argument, window_output(in, kernel, stride, 1, pad, pad, false));
            continue;
          }
          int64_t fits = 0, reaches = 0;
          for (int64_t start = 0; start < in + 2 * pad; start += stride) {
            if (start + kernel <= in + 2 * pad) ++fits;
            if (start + kernel < in + 2 * pad + stride && start < in + pad) ++reaches;
          }
          CHECK_EQ(window_output(in, kernel, stride, 1, pad, pad, false), fits);
          CHECK_EQ(window_output(in, kernel, stride, 1, pad, pad, true), std::max(fits, reaches));
        }
}

TEST(arena_random_buffers_do_not_overlap) {
  test::Rng rng(1);
  for (int round = 0; round < 200; ++round) {
    std::vector<Lifetime> buffers(static_cast<size_t>(rng.integer(0, 40)));
    for (Lifetime& b : buffers) {
      b.bytes = rng.integer(0, 5000);
      b.first = static_cast<int>(rng.integer(0, 30));
      b.last = b.first + static_cast<int>(rng.integer(0, 8));
    }
    const ArenaLayout layout = place_buffers(buffers);
    for (size_t i = 0; i < buffers.size(); ++i)
      for (size_t j = 0; j < i; ++j) {
        const Lifetime &a = buffers[i], &b = buffers[j];
        if (a.first > b.last || b.first > a.last || a.bytes == 0 || b.bytes == 0) continue;
        CHECK(layout.offsets[i] + a.bytes <= layout.offsets[j] || layout.offsets[j] + b.bytes <= layout.offsets[i]);
      }
    CHECK(layout.bytes >= layout.largest_live);
  }
}

namespace {

struct Counting {
  std::atomic<int> calls{0}, tids{0}, team{0};
};

void count(void* context, int tid, int threads) noexcept {
  auto& c = *static_cast<Counting*>(context);
  c.calls.fetch_add(1);
  c.tids.fetch_add(1 << tid);
  c.team.store(threads);
}

}  // namespace

TEST(region_runs_each_thread_once) {
  for (int threads : {1, 2, 7, 3}) {
    for (int round = 0; round < 50; ++round) {
      Counting c;
      parallel_region(threads, count, &c);
      CHECK(c.team.load() >= 1 && c.team.load() <= threads);
      CHECK_EQ(c.calls.load(), c.team.load());
      CHECK_EQ(c.tids.load(), (1 << c.team.load()) - 1);
    }
  }
}

TEST(regions_from_many_threads_at_once) {
  std::atomic<int> bad{0};
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back([&bad] {
      for (int round = 0; round < 200; ++round) {
        Counting c;
        parallel_region(3, count, &c);
        if (c.calls.load() != c.team.load()) ++bad;
      }
    });
  }
  for (std::thread& t : callers) t.join();
  CHECK_EQ(bad.load(), 0);
}

namespace {

struct Relay {
  Barrier barrier;
  std::vector<int> turns = std::vector<int>(8, 0);
  std::atomic<int> late{0};
};

// Each thread writes its turn, all meet, each reads all: unsynchronized access would be a race.
void relay(void* context, int tid, int threads) noexcept {
  auto& r = *static_cast<Relay*>(context);
  for (int turn = 1; turn <= 300; ++turn) {
    r.turns[tid] = turn;
    r.barrier.wait(threads);
    for (int i = 0; i < threads; ++i) r.late.fetch_add(r.turns[i] != turn);
    r.barrier.wait(threads);
  }
}

}  // namespace

TEST(barrier_separates_turns) {
  for (int threads : {1, 2, 3, 8}) {
    Relay r;
    parallel_region(threads, relay, &r);
    CHECK_EQ(r.late.load(), 0);
  }
}

namespace {

// A pool of threads made for each region, fewer than it is asked for.
struct FreshThreads {
  int most = 0;
  std::atomic<int> regions{0};
};

void run_fresh(void* pool, int threads, void (*body)(void*, int, int), void* context) {
  auto& fresh = *static_cast<FreshThreads*>(pool);
  fresh.regions.fetch_add(1);
  const int team = std::min(threads, fresh.most);
  std::vector<std::thread> others;
  for (int i = 1; i < team; ++i) others.emplace_back([=] { body(context, i, team); });
  body(context, 0, team);
  for (std::thread& t : others) t.join();
}

}  // namespace

TEST(regions_run_on_a_pool_of_the_caller) {
  const std::string before = thread_pool_name();
  for (int most : {1, 2, 5}) {
    FreshThreads fresh{most};
    set_thread_pool(run_fresh, &fresh);
    CHECK_EQ(thread_pool_name(), std::string("caller"));
    Counting c;
    parallel_region(3, count, &c);
    CHECK_EQ(c.team.load(), std::min(3, most));
    CHECK_EQ(c.calls.load(), c.team.load());
    Relay r;
    parallel_region(8, relay, &r);
    CHECK_EQ(r.late.load(), 0);
    parallel_region(1, count, &c);  // one thread needs no pool
    CHECK_EQ(fresh.regions.load(), 2);
    set_thread_pool(nullptr, nullptr);
  }
  CHECK_EQ(thread_pool_name(), before);
}

namespace {

// Memory of the heap, what is out of it, and what is wrong with it on purpose.
struct Heap {
  size_t bytes = 0;
  int pieces = 0;
  bool is_empty = false, is_askew = false;
};

void* take(void* heap, size_t bytes, size_t alignment) {
  auto& h = *static_cast<Heap*>(heap);
  if (h.is_empty) return nullptr;
  h.bytes += bytes;
  ++h.pieces;
  auto* memory = static_cast<std::byte*>(std::aligned_alloc(alignment, (bytes / alignment + 2) * alignment));
  return memory + (h.is_askew ? 8 : 0);
}

void give_back(void* heap, void* memory, size_t bytes) {
  auto& h = *static_cast<Heap*>(heap);
  h.bytes -= bytes;
  --h.pieces;
  std::free(static_cast<std::byte*>(memory) - (h.is_askew ? 8 : 0));
}

}  // namespace

TEST(buffers_come_from_the_allocator_of_the_caller_and_go_back_to_it) {
  Heap heap;
  const Allocator allocator{take, give_back, &heap};
  AlignedBuffer before(100);
  set_allocator(&allocator);
  before = AlignedBuffer();  // to the library
  CHECK_EQ(heap.pieces, 0);
  AlignedBuffer buffer(100);
  CHECK_EQ(heap.bytes, size_t{100} + AlignedBuffer::kReadSlack);
  reserve(buffer, 5'000'000);
  CHECK_EQ(heap.pieces, 1);
  AlignedBuffer moved = std::move(buffer);
  set_allocator(nullptr);
  const AlignedBuffer after(100);
  CHECK_EQ(heap.pieces, 1);
  moved = AlignedBuffer();
  CHECK_EQ(heap.pieces, 0);
  CHECK_EQ(heap.bytes, size_t{0});
}

TEST(buffers_that_an_allocator_can_not_give_are_refused) {
  Heap heap;
  const Allocator allocator{take, give_back, &heap};
  set_allocator(&allocator);
  heap.is_empty = true;
  CHECK_THROWS(std::bad_alloc, AlignedBuffer(100));
  heap = {.is_askew = true};
  CHECK_THROWS(std::bad_alloc, AlignedBuffer(100));
  CHECK_EQ(heap.pieces, 0);
  set_allocator(nullptr);
}

TEST(threads_number) {
  set_num_threads(3);
  CHECK_EQ(num_threads(), 3);
  CHECK_EQ(num_threads(5), 3);
  set_num_threads(0);
  CHECK_EQ(num_threads(5), 5);
  CHECK(num_threads() >= 1);
}
