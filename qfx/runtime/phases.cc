#include "runtime/phases.h"

#include <algorithm>
#include <cstdint>
#include <utility>

namespace qfx {
namespace {

// Results of works that come earlier than they have to, so that they share a phase: small ones, that stay in cache
// until they are read. The most of these bytes whose memory is within kMemoryForPhases of what it would be without.
constexpr int64_t kLargestInPhases[] = {256 * 1024, 64 * 1024, 16 * 1024};
constexpr double kMemoryForPhases = 1.1;

std::vector<Task> tasks_of(const Draft& draft) {
  std::vector<std::vector<int>> writers(draft.storages.size());
  std::vector<Task> tasks;
  for (size_t w = 0; w < draft.works.size(); ++w) {
    const PlannedWork& work = draft.works[w];
    Task task{{}, work.bytes, work.work->cost(), work.max_threads, work.work->meets()};
    for (const Place& p : draft.operands[w].in) {
      task.needs.insert(task.needs.end(), writers[p.storage].begin(), writers[p.storage].end());
    }
    tasks.push_back(std::move(task));
    for (const Place& p : draft.operands[w].out) writers[p.storage].push_back(static_cast<int>(w));
  }
  return tasks;
}

ArenaLayout lay_out(const Draft& draft, const std::vector<Turn>& turns, bool keep_values, const PhaseOptions& options) {
  const int end = turns.empty() ? 0 : turns.back().tick;
  std::vector<Lifetime> lifetimes(draft.storages.size(), {0, end + 1, -1});
  const auto touch = [&](int storage, int tick) {
    if (draft.storages[storage].base != Location::Base::arena) return;
    Lifetime& l = lifetimes[storage];
    l.bytes = static_cast<int64_t>(options.room * static_cast<double>(draft.storages[storage].bytes));
    l.first = keep_values ? 0 : std::min(l.first, tick);
    l.last = keep_values ? end : std::max(l.last, tick);
  };
  for (const Turn& turn : turns) {
    for (const Place& p : draft.operands[turn.task].in) touch(p.storage, turn.tick);
    for (const Place& p : draft.operands[turn.task].out) touch(p.storage, turn.tick);
  }
  if (options.written >= 0) touch(options.written, 0);
  return place_buffers(lifetimes);
}

}  // namespace

Phases find_phases(const Draft& draft, const PlanOptions& plan, const PhaseOptions& options) {
  const std::vector<Task> tasks = tasks_of(draft);
  const auto phases_for = [&](int64_t largest) {
    Phases found;
    found.turns = schedule(tasks, {largest, plan.cost_per_thread});
    for (const Task& task : tasks) found.single.push_back(task.threads == 1);
    found.layout = lay_out(draft, found.turns, plan.keep_values, options);
    return found;
  };
  Phases best = phases_for(0);
  if (options.in_order) return best;
  const auto budget = static_cast<int64_t>(kMemoryForPhases * static_cast<double>(best.layout.bytes));
  for (const int64_t largest : kLargestInPhases) {
    Phases shared = phases_for(largest);
    if (shared.layout.bytes <= budget) return shared;
  }
  return best;
}

}  // namespace qfx
