#pragma once
#include <vector>

#include "runtime/arena.h"
#include "runtime/placement.h"
#include "runtime/plan.h"
#include "runtime/schedule.h"

namespace qfx {

// The order of a draft's works, and where its storages are in the arena meanwhile; offsets are zero outside of it.
struct Phases {
  std::vector<Turn> turns;
  std::vector<char> single;  // works of the draft for one thread, on which they may follow others without a barrier
  ArenaLayout layout;
};

struct PhaseOptions {
  bool in_order = false;  // no work comes before one that is given first
  int written = -1;       // a storage that is written before the works
  double room = 1.0;      // times what the draft needs of each storage
};

// The order that lets the most works share phases, unless that takes clearly more memory.
Phases find_phases(const Draft& draft, const PlanOptions& plan, const PhaseOptions& options);

}  // namespace qfx
