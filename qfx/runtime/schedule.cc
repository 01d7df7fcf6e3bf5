#include "runtime/schedule.h"

#include <algorithm>

namespace qfx {
namespace {

// How far ahead a task is looked for: branches of networks are shorter.
constexpr int kWindow = 48;
// Lanes that a task takes, at most.
constexpr int kWidest = 1 << 10;

// Tasks of a phase that follow each other on one thread; or one task for several threads.
struct Strand {
  int threads = 1;
  int64_t cost = 0;
  int lane = 0;
};

class Scheduler {
 public:
  Scheduler(std::span<const Task> tasks, const ScheduleOptions& options)
      : tasks_(tasks), options_(options), turn_(tasks.size(), -1), forks_(tasks.size(), 0) {
    find_forks();
  }

  std::vector<Turn> run() {
    const int end = static_cast<int>(tasks_.size());
    for (int next = 0; next < end; ++next) {
      if (turn_[next] >= 0) continue;
      first_ = turns_.size();
      strands_.clear();
      add(next, new_strand(tasks_[next]));
      bool in_order = true;
      for (int t = next + 1; t < std::min(end, next + kWindow); ++t) {
        if (turn_[t] < 0) in_order = try_to_join(t, in_order) && in_order;
      }
      finish_phase();
    }
    return std::move(turns_);
  }

 private:
  static constexpr int kNone = -1, kWaits = -2;

  // A task forks where two or more chains start from it, for one thread each and worth it: they wait for it, and then
  // run side by side.
  void find_forks() {
    std::vector<int64_t> chain(tasks_.size(), 0), longest(tasks_.size(), 0);
    for (size_t t = tasks_.size(); t-- > 0;) {
      const Task& task = tasks_[t];
      chain[t] += task.cost;
      if (task.threads > 1 || task.needs.size() != 1) continue;
      const int n = task.needs[0];
      chain[n] += chain[t];
      forks_[n] = forks_[n] || std::min(chain[t], longest[n]) >= options_.cost_per_thread;
      longest[n] = std::max(chain[t], longest[n]);
    }
  }

  // Until the phase is finished, a turn's lane is the number of its strand.
  void add(int t, int strand) {
    turn_[t] = static_cast<int>(turns_.size());
    turns_.push_back({t, phase_, strand, 0});
    strands_[strand].cost += tasks_[t].cost;
  }

  int new_strand(const Task& task) {
    strands_.push_back({std::min(task.threads, kWidest), 0, 0});
    return static_cast<int>(strands_.size()) - 1;
  }

  // in_order: no task that comes before this one is left for later.
  bool try_to_join(int t, bool in_order) {
    const Task& task = tasks_[t];
    if (task.meets || !(in_order || task.bytes <= options_.largest)) return false;
    const int strand = strand_of_needs(task);
    if (strand == kWaits) return false;
    add(t, strand == kNone ? new_strand(task) : strand);
    return true;
  }

  // The strand of what a task needs of this phase: one that it can follow, none, or something that it has to wait for.
  int strand_of_needs(const Task& task) {
    int strand = kNone;
    for (const int n : task.needs) {
      if (turn_[n] < 0) return kWaits;
      if (static_cast<size_t>(turn_[n]) < first_) continue;
      const int other = turns_[turn_[n]].lane;
      if (task.threads > 1 || strands_[other].threads > 1 || forks_[n]) return kWaits;
      if (strand != kNone && strand != other && !try_to_merge(other, strand)) return kWaits;
      strand = strand == kNone ? other : strand;
    }
    return strand;
  }

  // One strand of two, where one of them is not worth a thread of its own.
  bool try_to_merge(int from, int into) {
    if (std::min(strands_[from].cost, strands_[into].cost) >= options_.cost_per_thread) return false;
    for (size_t i = first_; i < turns_.size(); ++i) {
      if (turns_[i].lane == from) turns_[i].lane = into;
    }
    strands_[into].cost += strands_[from].cost;
    strands_[from] = {0, 0, 0};
    return true;
  }

  void finish_phase() {
    const bool alone = assign_lanes() == 1;
    for (size_t i = first_; i < turns_.size(); ++i) {
      turns_[i].lane = strands_[turns_[i].lane].lane;
      turns_[i].tick = alone ? tick_++ : tick_;
    }
    tick_ += alone ? 0 : 1;
    ++phase_;
  }

  // Strands for one thread share lanes, each of which is worth a thread. Returns how many strands and lanes run at the
  // same time.
  int assign_lanes() {
    int64_t rest = 0;
    for (const Strand& s : strands_) rest += s.threads == 1 ? s.cost : 0;
    int next = 0, count = 0, shared = -1;
    int64_t filled = 0;
    for (Strand& s : strands_) {
      if (s.threads == 1) {
        if (shared < 0 || std::min(filled, rest) >= options_.cost_per_thread) {
          shared = next++;
          filled = 0;
          ++count;
        }
        s.lane = shared;
        filled += s.cost;
        rest -= s.cost;
      } else if (s.threads > 1) {
        s.lane = next;
        next += s.threads;
        ++count;
      }
    }
    return count;
  }

  std::span<const Task> tasks_;
  ScheduleOptions options_;
  std::vector<int> turn_;    // of each task, or -1
  std::vector<char> forks_;  // whether what needs a task waits for it
  std::vector<Turn> turns_;
  std::vector<Strand> strands_;  // of this phase
  size_t first_ = 0;             // turn of this phase
  int phase_ = 0, tick_ = 0;
};

}  // namespace

std::vector<Turn> schedule(std::span<const Task> tasks, const ScheduleOptions& options) {
  return Scheduler(tasks, options).run();
}

}  // namespace qfx
