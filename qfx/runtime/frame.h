#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/work.h"
#include "runtime/buffer.h"
#include "runtime/plan.h"
#include "runtime/room.h"
#include "runtime/threads.h"

namespace qfx {

struct Team;

// The works of a plan, those of its slices included.
size_t work_count(const Plan& plan);

// How many threads run a plan if `threads` are asked for, as num_threads() takes them.
int team_size(const Plan& plan, int threads);

// Bytes of working memory that a run by that team takes.
uint64_t frame_bytes(const Plan& plan, int threads);

// The working memory of one run at a time.
class Frame {
 public:
  // Makes room for a run of `plan` by a team, once for each run. Throws std::bad_alloc.
  void grow(const Plan& plan, int threads);

  // seconds: null, or one a work of the slices' plan and then of this, to which its time is added; all threads meet
  // between works then. Throws InputValuesError where a work met values that it can't take.
  void run(const Plan& plan, std::span<const void* const> in, std::span<void* const> out, int threads, double* seconds);

  // The first element of a value of a plan without buffer reuse, after its run.
  const void* value(const Plan& plan, int id, std::span<const void* const> in,
                    std::span<void* const> out) const noexcept;

 private:
  class TeamMeeting final : public Meeting {
   public:
    void wait(int threads) noexcept override { barrier_.wait(threads); }

   private:
    Barrier barrier_;
  };

  // What one run reads.
  struct Call {
    Frame* frame;
    const Plan* plan;
    std::span<const void* const> in;
    std::span<void* const> out;
    double* seconds;
  };

  static void run_team(void* context, int tid, int threads) noexcept;
  void* resolve(const Location& l, const Call& c) const noexcept;
  void* resolve_in_slice(const Location& l, const Call& c, const Slice& slice, int owner) const noexcept;
  void run_slice(const Call& c, size_t i, int tid, const Team& team) noexcept;
  void run_slices(const Call& c, const Team& team) noexcept;
  std::byte* scratch_for(const Plan& plan, int tid) const noexcept;

  Room arena_, slice_arenas_, scratch_;
  std::vector<void*> slots_;
  std::atomic<const PlannedWork*> refused_ = nullptr;
  Barrier barrier_;
  TeamMeeting meeting_;
};

}  // namespace qfx
