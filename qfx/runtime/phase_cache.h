#pragma once
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <vector>

#include "runtime/phases.h"
#include "runtime/placement.h"
#include "runtime/plan.h"

namespace qfx {

// Phases of a program's plans. They hold for every draft of the same works between the same storages, none of which is
// larger: sizes that vary, like a sequence that grows, need new phases only where they outgrow those that are known.
// Safe from many threads.
class PhaseCache {
 public:
  static constexpr size_t kMost = 16;
  // Where sizes vary, phases are found for buffers this much larger than what is asked for ...
  static constexpr double kRoom = 2.0;
  // ... as long as the arena is no larger than this: beyond, a run takes far longer than to plan it.
  static constexpr int64_t kLargestRoom = 8 << 20;
  // Phases for buffers that together are more than this much larger are not used.
  static constexpr int64_t kTooLarge = 4;

  std::shared_ptr<const Phases> find(const Draft& draft, const PlanOptions& options);

 private:
  struct Known {
    std::vector<int> structure;
    std::vector<int64_t> bytes;  // one a storage
    std::shared_ptr<const Phases> phases;
  };

  std::mutex mutex_;
  std::list<Known> known_;  // the last used first
};

}  // namespace qfx
