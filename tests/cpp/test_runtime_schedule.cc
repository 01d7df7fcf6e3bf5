#include <algorithm>
#include <map>
#include <set>

#include "harness.h"
#include "runtime/errors.h"
#include "runtime/executable.h"
#include "runtime/schedule.h"

using namespace qfx;

namespace {

constexpr int64_t kWorth = 100;  // cost that is worth a thread

Task serial(std::vector<int> needs, int64_t cost = kWorth) {
  return {std::move(needs), 1, cost, 1, false};
}

Task wide(std::vector<int> needs, int64_t bytes = 1) {
  return {std::move(needs), bytes, 8 * kWorth, 8, false};
}

// The turns in the order of the tasks.
std::vector<Turn> by_task(const std::vector<Task>& tasks, int64_t largest = 1 << 20) {
  std::vector<Turn> turns = schedule(tasks, {largest, kWorth});
  std::sort(turns.begin(), turns.end(), [](const Turn& a, const Turn& b) { return a.task < b.task; });
  return turns;
}

// Whatever the team, nothing that a task needs is written at the same time by another thread, and a tick holds either
// one task or those of several lanes.
void check_valid(const std::vector<Task>& tasks, const std::vector<Turn>& turns) {
  CHECK_EQ(turns.size(), tasks.size());
  std::vector<int> position(tasks.size(), -1);
  for (size_t i = 0; i < turns.size(); ++i) {
    const Turn& t = turns[i];
    CHECK_EQ(position[t.task], -1);
    position[t.task] = static_cast<int>(i);
    CHECK(i == 0 || (turns[i - 1].phase <= t.phase && turns[i - 1].tick <= t.tick));
  }
  std::map<int, std::set<int>> lanes;
  for (const Turn& t : turns) lanes[t.phase].insert(t.lane);
  for (const Turn& t : turns) {
    for (const int n : tasks[t.task].needs) {
      const Turn& before = turns[position[n]];
      CHECK(position[n] < position[t.task]);
      const bool follows = before.lane == t.lane && tasks[n].threads == 1 && tasks[t.task].threads == 1;
      CHECK(before.phase < t.phase || follows);
    }
    for (const Turn& other : turns) {
      if (other.phase == t.phase && lanes[t.phase].size() > 1) CHECK_EQ(other.tick, t.tick);
      if (other.phase != t.phase) CHECK(other.tick != t.tick);
    }
  }
}

Step step(const char* op, int input, int output) {
  Step s;
  s.op = op;
  s.name = op + std::to_string(output);
  s.inputs = {input};
  s.outputs = {output};
  return s;
}

// `branches` chains of lookups over one input, of different lengths, and the sums of their results.
std::shared_ptr<const Program> branches_of_lookups(int branches) {
  ProgramBuilder b;
  const int x = b.value("x", DType::u8, {-1});
  int sum = -1;
  for (int i = 0; i < branches; ++i) {
    int h = x;
    for (int k = 0; k <= i % 3; ++k) {
      std::vector<uint8_t> table(256);
      for (int v = 0; v < 256; ++v) table[v] = static_cast<uint8_t>(v * (2 * i + 3) + k);
      const int y = b.value("y", DType::u8, {-1});
      Step s = step("lookup", h, y);
      s.constants["table"] = b.constant(DType::u8, {256}, table.data());
      b.step(s);
      h = y;
    }
    if (sum < 0) {
      sum = h;
      continue;
    }
    const int y = b.value("sum", DType::u8, {-1});
    Step s = step("add", sum, y);
    s.inputs = {sum, h};
    s.ints = {{"a_zero_point", {0}}, {"b_zero_point", {0}}, {"zero_point", {0}}};
    s.floats = {{"a_multiplier", {0.5}}, {"b_multiplier", {0.5}}};
    b.step(s);
    sum = y;
  }
  return b.build({x}, {sum});
}

}  // namespace

TEST(schedule_keeps_a_chain_in_order) {
  const auto turns = by_task({wide({}), wide({0}), wide({1})});
  for (int i = 0; i < 3; ++i) {
    CHECK_EQ(turns[i].phase, i);
    CHECK_EQ(turns[i].tick, i);
  }
}

TEST(schedule_puts_wide_branches_into_one_phase) {
  const auto turns = by_task({wide({}), wide({0}), wide({1}), wide({0}), wide({3}), wide({2, 4})});
  CHECK_EQ(turns[1].phase, turns[3].phase);
  CHECK_EQ(turns[2].phase, turns[4].phase);
  CHECK_EQ(turns[5].phase, 3);
  CHECK(turns[1].lane != turns[3].lane);
}

TEST(schedule_leaves_large_results_in_order) {
  const std::vector<Task> tasks = {wide({}), wide({0}), wide({1}), wide({0}, 1000), wide({2, 3})};
  CHECK_EQ(by_task(tasks, 999)[3].phase, by_task(tasks, 999)[2].phase);
  CHECK_EQ(by_task(tasks, 1000)[3].phase, by_task(tasks, 1000)[1].phase);
}

TEST(schedule_gives_small_chains_threads_of_their_own) {
  const auto turns = by_task({wide({}), serial({0}), serial({1}), serial({0}), serial({3}), serial({2, 4})});
  for (int i = 2; i < 5; ++i) CHECK_EQ(turns[i].phase, turns[1].phase);
  CHECK_EQ(turns[1].lane, turns[2].lane);
  CHECK_EQ(turns[3].lane, turns[4].lane);
  CHECK(turns[1].lane != turns[3].lane);
  CHECK(turns[5].phase > turns[4].phase);
}

TEST(schedule_forks_where_chains_are_worth_it) {
  const auto turns = by_task({serial({}, 1), serial({0}, 60), serial({0}, 60), serial({1}, 60), serial({2}, 60)});
  CHECK_EQ(turns[1].phase, 1);
  CHECK_EQ(turns[4].phase, 1);
  CHECK_EQ(turns[1].lane, turns[3].lane);
  CHECK(turns[3].lane != turns[4].lane);
}

TEST(schedule_keeps_tiny_branches_on_one_thread) {
  const auto turns = by_task({serial({}, 1), serial({0}, 20), serial({0}, 20), serial({1, 2}, 1), serial({}, 5)});
  for (const Turn& turn : turns) {
    CHECK_EQ(turn.phase, 0);
    CHECK_EQ(turn.lane, 0);
  }
  CHECK_EQ(turns[4].tick, 4);  // so that they can reuse memory
}

TEST(schedule_begins_a_phase_for_tasks_that_meet) {
  std::vector<Task> tasks = {wide({}), wide({}), wide({})};
  tasks[1].meets = true;
  const auto turns = by_task(tasks);
  CHECK(turns[1].phase != turns[0].phase);
}

TEST(schedule_is_valid_for_random_graphs) {
  test::Rng rng(7);
  for (int round = 0; round < 300; ++round) {
    std::vector<Task> tasks;
    const auto count = static_cast<int>(rng.integer(0, 70));
    for (int t = 0; t < count; ++t) {
      std::set<int> needs;
      for (int64_t k = rng.integer(0, 3); k > 0 && t > 0; --k) {
        needs.insert(static_cast<int>(rng.integer(std::max(0, t - 9), t - 1)));
      }
      const auto threads = static_cast<int>(std::max<int64_t>(1, rng.integer(-4, 4)));
      tasks.push_back({{needs.begin(), needs.end()},
                       rng.integer(0, 2000),
                       threads == 1 ? rng.integer(0, 2 * kWorth) : kWorth * threads,
                       threads,
                       rng.integer(0, 9) == 0});
    }
    check_valid(tasks, schedule(tasks, {1000, kWorth}));
  }
}

TEST(branches_give_the_same_whatever_the_team) {
  Executable exe(branches_of_lookups(7), test::isas().back());
  bool lanes = false, phases = false;
  for (const int64_t n : {100, 5'000, 30'000, 300'000}) {
    test::Rng rng(n);
    std::vector<uint8_t> x(static_cast<size_t>(n)), expected(x.size()), y(x.size());
    for (uint8_t& v : x) v = static_cast<uint8_t>(rng.integer(0, 255));
    const auto plan = exe.plan({{{n}, {1}}});
    for (const PlannedWork& work : plan->works) {
      lanes = lanes || (work.lane > 0 && work.max_threads == 1);
      phases = phases || (!work.barrier && work.max_threads > 1);
    }
    CHECK(plan->arena_bytes <= 1.3 * static_cast<double>(plan->largest_live_bytes));
    const void* in[] = {x.data()};
    void* first[] = {expected.data()};
    void* out[] = {y.data()};
    exe.run(*plan, in, first, 1);
    for (const int threads : {2, 3, 5}) {
      for (int round = 0; round < 20; ++round) {
        std::fill(y.begin(), y.end(), uint8_t{0});
        exe.run(*plan, in, out, threads);
        CHECK(y == expected);
      }
    }
  }
  CHECK(lanes && phases);
}
