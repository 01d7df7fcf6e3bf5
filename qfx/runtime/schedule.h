#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace qfx {

// What the order of a plan's works depends on.
struct Task {
  std::vector<int> needs;  // earlier tasks whose results this one reads
  int64_t bytes = 0;       // of its result
  int64_t cost = 0;        // as Work::cost()
  int threads = 1;         // the most that it can use
  bool meets = false;      // its threads wait for one another, at a place that all tasks share
};

// A task in its turn. The tasks of a phase need no barrier between them: none reads what another thread writes there.
struct Turn {
  int task = 0;
  int phase = 0;  // all threads meet between phases
  int lane = 0;   // the first thread of the task, modulo the team; tasks for one thread follow each other there
  int tick = 0;   // of the clock of buffers' lifetimes; tasks that may run at the same time share one
};

struct ScheduleOptions {
  int64_t largest = 0;          // bytes of the results of tasks that may come before others that are given first
  int64_t cost_per_thread = 1;  // that is worth another thread
};

// An order in which tasks that do not need each other share phases, and those that would leave threads idle run side by
// side. Tasks for one thread that need each other share a phase too, on one thread.
std::vector<Turn> schedule(std::span<const Task> tasks, const ScheduleOptions& options);

}  // namespace qfx
