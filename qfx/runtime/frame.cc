#include "runtime/frame.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <string>

#include "core/work.h"
#include "runtime/errors.h"
#include "runtime/loaded.h"  // IWYU pragma: keep

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace qfx {

// The threads that run a plan together, seen from one of them.
struct Team {
  int tid, size;
  Barrier* barrier;  // not needed for a team of one
  Meeting* meeting;  // likewise: within a work, of those threads that run it

  void meet() const noexcept {
    if (size > 1) barrier->wait(size);
  }

  // Of `threads` threads from `lane` on, which one this is; `threads` or more: none of them. A work for the whole team
  // is split alike every time, so that threads read what they wrote.
  int part(int lane, int threads) const noexcept {
    const int distance = threads == size ? tid : tid - lane % size;
    return distance < 0 ? distance + size : distance;
  }
};

namespace {

using Clock = std::chrono::steady_clock;

// Round to nearest and denormals kept, whatever the calling process has set for its own arithmetic.
class DefaultFloatMode {
 public:
#if defined(__x86_64__)
  DefaultFloatMode() noexcept : saved_(_mm_getcsr()) { _mm_setcsr(0x1F80); }
  ~DefaultFloatMode() { _mm_setcsr(saved_); }
  DefaultFloatMode(const DefaultFloatMode&) = delete;
  DefaultFloatMode& operator=(const DefaultFloatMode&) = delete;

 private:
  unsigned saved_;
#elif defined(__aarch64__)
  DefaultFloatMode() noexcept {
    asm volatile("mrs %0, fpcr" : "=r"(saved_));
    asm volatile("msr fpcr, %0" : : "r"(uint64_t{0}) : "memory");
  }
  ~DefaultFloatMode() { asm volatile("msr fpcr, %0" : : "r"(saved_) : "memory"); }
  DefaultFloatMode(const DefaultFloatMode&) = delete;
  DefaultFloatMode& operator=(const DefaultFloatMode&) = delete;

 private:
  uint64_t saved_;
#endif
};

size_t aligned(size_t bytes) noexcept {
  return (bytes + AlignedBuffer::kAlignment - 1) / AlignedBuffer::kAlignment * AlignedBuffer::kAlignment;
}

// The pointers of one run of a plan, one a work's operand and one a work's result.
template <class Address>
void fill_slots(const Plan& plan, void** slots, const Address& address) noexcept {
  for (const PlannedWork& work : plan.works) {
    for (const Location& l : work.in) *slots++ = address(l);
    for (const Location& l : work.out) *slots++ = address(l);
  }
}

// seconds: null, or one a work, to which the thread of its first part adds its time; all threads meet between works.
// refused: gets a work that met values which it can't take.
void run_works(const Plan& plan, void* const* slots, std::byte* scratch, const Team& team, double* seconds,
               std::atomic<const PlannedWork*>& refused) noexcept {
  for (const PlannedWork& work : plan.works) {
    if (work.barrier || seconds != nullptr) team.meet();
    const auto start = seconds != nullptr ? Clock::now() : Clock::time_point();
    const int threads = std::min(team.size, work.max_threads);
    const int part = team.part(work.lane, threads);
    if (threads == 1) {
      if (part == 0) work.work->run(slots, slots + work.in.size(), scratch, 0, 1);
    } else if (part < threads) {
      work.work->run_together(slots, slots + work.in.size(), scratch, part, threads, *team.meeting);
    }
    if (part < threads && work.work->refused(scratch)) refused.store(&work, std::memory_order_relaxed);
    slots += work.in.size() + work.out.size();
    if (seconds == nullptr) continue;
    team.meet();
    if (part == 0) *seconds += std::chrono::duration<double>(Clock::now() - start).count();
    ++seconds;
  }
}

// Kernels may read a little past the end of a value: that is not another thread's.
size_t slice_stride(const Slices& slices) {
  return aligned(static_cast<size_t>(slices.arena_bytes) + AlignedBuffer::kReadSlack);
}

void* at(const void* base, int64_t offset) noexcept {
  return const_cast<std::byte*>(static_cast<const std::byte*>(base) + offset);
}

}  // namespace

size_t work_count(const Plan& plan) {
  return plan.works.size() + (plan.slices ? plan.slices->plans[0]->works.size() : 0);
}

int team_size(const Plan& plan, int threads) {
  return std::min(num_threads(threads), plan.max_threads);
}

uint64_t frame_bytes(const Plan& plan, int threads) {
  const auto team = static_cast<uint64_t>(threads);
  const uint64_t slices = plan.slices != nullptr ? slice_stride(*plan.slices) * team : 0;
  return static_cast<uint64_t>(plan.arena_bytes) + slices + aligned(plan.scratch_bytes) * team;
}

void Frame::grow(const Plan& plan, int threads) {
  const auto team = static_cast<size_t>(threads);
  size_t slot_count = plan.slots;
  arena_.fit(static_cast<size_t>(plan.arena_bytes));
  scratch_.fit(aligned(plan.scratch_bytes) * team);
  slice_arenas_.fit(plan.slices == nullptr ? 0 : slice_stride(*plan.slices) * team);
  if (plan.slices != nullptr) {
    slot_count += plan.slices->plans[0]->slots * team;
  }
  if (slots_.size() < slot_count) slots_.resize(slot_count);
}

void* Frame::resolve(const Location& l, const Call& c) const noexcept {
  using Base = Location::Base;
  if (l.base == Base::input) return at(c.in[l.index], l.offset);
  if (l.base == Base::output) return at(c.out[l.index], l.offset);
  if (l.base == Base::constant) return at(c.plan->loaded->program->constants()[l.index].data.data(), l.offset);
  return at(arena_.data(), l.offset);
}

// The same for a slice in the memory of thread `owner`.
void* Frame::resolve_in_slice(const Location& l, const Call& c, const Slice& slice, int owner) const noexcept {
  using Base = Location::Base;
  const Slices& slices = *c.plan->slices;
  if (l.base == Base::input) return at(c.in[l.index], l.offset + slice.input_bytes[l.index]);
  if (l.base == Base::output) return at(resolve(slices.out, c), l.offset + slice.out_bytes);
  if (l.base == Base::constant) return resolve(l, c);
  return at(slice_arenas_.data() + slice_stride(slices) * static_cast<size_t>(owner), l.offset);
}

// By thread `tid` alone, or with its whole team in the memory of thread 0.
void Frame::run_slice(const Call& c, size_t i, int tid, const Team& team) noexcept {
  const Slice& slice = c.plan->slices->parts[i];
  const Plan& plan = *c.plan->slices->plans[slice.plan];
  const bool alone = team.size == 1;
  void** own = slots_.data() + c.plan->slots + plan.slots * static_cast<size_t>(tid);
  fill_slots(plan, own, [&](const Location& l) { return resolve_in_slice(l, c, slice, alone ? tid : 0); });
  run_works(plan, own, scratch_for(*c.plan, tid), team, alone && tid != 0 ? nullptr : c.seconds, refused_);
}

std::byte* Frame::scratch_for(const Plan& plan, int tid) const noexcept {
  return scratch_.data() + aligned(plan.scratch_bytes) * static_cast<size_t>(tid);
}

// As many slices for each thread as go round, then the others by all threads together.
void Frame::run_slices(const Call& c, const Team& team) noexcept {
  const auto tid = static_cast<size_t>(team.tid), size = static_cast<size_t>(team.size);
  const size_t count = c.plan->slices->parts.size(), each = count / size;
  for (size_t i = tid * each; i < (tid + 1) * each; ++i) run_slice(c, i, team.tid, {0, 1, nullptr, nullptr});
  for (size_t i = each * size; i < count; ++i) {
    team.meet();
    run_slice(c, i, team.tid, team);
  }
  team.meet();
}

void Frame::run_team(void* context, int tid, int threads) noexcept {
  const Call& c = *static_cast<const Call*>(context);
  const DefaultFloatMode mode;
  const Team team{tid, threads, &c.frame->barrier_, &c.frame->meeting_};
  double* seconds = c.seconds;
  if (c.plan->slices != nullptr) {
    c.frame->run_slices(c, team);
    if (seconds != nullptr) seconds += c.plan->slices->plans[0]->works.size();
  }
  run_works(*c.plan, c.frame->slots_.data(), c.frame->scratch_for(*c.plan, tid), team, seconds, c.frame->refused_);
}

void Frame::run(const Plan& plan, std::span<const void* const> in, std::span<void* const> out, int threads,
                double* seconds) {
  Call call{this, &plan, in, out, seconds};
  fill_slots(plan, slots_.data(), [&](const Location& l) { return resolve(l, call); });
  refused_.store(nullptr, std::memory_order_relaxed);
  parallel_region(threads, run_team, &call);
  const PlannedWork* refused = refused_.load(std::memory_order_relaxed);
  if (refused != nullptr) throw InputValuesError(std::string(refused->name), refused->work->refusal());
}

const void* Frame::value(const Plan& plan, int id, std::span<const void* const> in,
                         std::span<void* const> out) const noexcept {
  return resolve(plan.values[static_cast<size_t>(id)].location, {nullptr, &plan, in, out, nullptr});
}

}  // namespace qfx
