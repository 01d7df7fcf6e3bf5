#include "runtime/executable.h"

#include <algorithm>
#include <chrono>

#include "runtime/errors.h"
#include "runtime/planner.h"
#include "runtime/shapes.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace qfx {
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

class TeamMeeting final : public Meeting {
 public:
  void wait(int threads) noexcept override { barrier_.wait(threads); }

 private:
  Barrier barrier_;
};

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

// The pointers of one run of a plan, one a work's operand and one a work's result.
template <class Address>
void fill_slots(const Plan& plan, void** slots, const Address& address) noexcept {
  for (const PlannedWork& work : plan.works) {
    for (const Location& l : work.in) *slots++ = address(l);
    for (const Location& l : work.out) *slots++ = address(l);
  }
}

// seconds: null, or one a work, to which the thread of its first part adds its time; all threads meet between works.
void run_works(const Plan& plan, void* const* slots, std::byte* scratch, const Team& team, double* seconds) noexcept {
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
    slots += work.in.size() + work.out.size();
    if (seconds == nullptr) continue;
    team.meet();
    if (part == 0) *seconds += std::chrono::duration<double>(Clock::now() - start).count();
    ++seconds;
  }
}

size_t work_count(const Plan& plan) {
  return plan.works.size() + (plan.slices ? plan.slices->plans[0]->works.size() : 0);
}

int team_size(const Plan& plan, int threads) {
  return std::min(num_threads(threads), plan.max_threads);
}

}  // namespace

// The working memory of one call.
struct Executable::Frame {
  AlignedBuffer arena, slice_arenas, scratch;
  std::vector<void*> slots;
  Barrier barrier;
  TeamMeeting meeting;

  // What one run reads.
  struct Call {
    Frame* frame;
    const Plan* plan;
    std::span<const void* const> in;
    std::span<void* const> out;
    double* seconds;  // null, or one a work of the slices' plan and then of this
  };

  void grow(const Plan& plan, int threads) {
    const auto team = static_cast<size_t>(threads);
    size_t slot_count = plan.slots;
    reserve(arena, static_cast<size_t>(plan.arena_bytes));
    reserve(scratch, aligned(plan.scratch_bytes) * team);
    if (plan.slices != nullptr) {
      reserve(slice_arenas, slice_stride(*plan.slices) * team);
      slot_count += plan.slices->plans[0]->slots * team;
    }
    if (slots.size() < slot_count) slots.resize(slot_count);
  }

  static void reserve(AlignedBuffer& buffer, size_t bytes) {
    if (buffer.data() != nullptr && buffer.size() >= bytes) return;
    buffer = AlignedBuffer();
    buffer = AlignedBuffer(bytes);
  }

  // Kernels may read a little past the end of a value: that is not another thread's.
  static size_t slice_stride(const Slices& slices) {
    return aligned(static_cast<size_t>(slices.arena_bytes) + AlignedBuffer::kReadSlack);
  }

  static void* at(const void* base, int64_t offset) noexcept {
    return const_cast<std::byte*>(static_cast<const std::byte*>(base) + offset);
  }

  void* resolve(const Location& l, const Call& c) const noexcept {
    using Base = Location::Base;
    if (l.base == Base::input) return at(c.in[l.index], l.offset);
    if (l.base == Base::output) return at(c.out[l.index], l.offset);
    if (l.base == Base::constant) return at(c.plan->loaded->program->constants()[l.index].data.data(), l.offset);
    return at(arena.data(), l.offset);
  }

  // The same for a slice in the memory of thread `owner`.
  void* resolve_in_slice(const Location& l, const Call& c, const Slice& slice, int owner) const noexcept {
    using Base = Location::Base;
    const Slices& slices = *c.plan->slices;
    if (l.base == Base::input) return at(c.in[l.index], l.offset + slice.input_bytes[l.index]);
    if (l.base == Base::output) return at(resolve(slices.out, c), l.offset + slice.out_bytes);
    if (l.base == Base::constant) return resolve(l, c);
    return at(slice_arenas.data() + slice_stride(slices) * static_cast<size_t>(owner), l.offset);
  }

  // By thread `tid` alone, or with its whole team in the memory of thread 0.
  void run_slice(const Call& c, size_t i, int tid, const Team& team) noexcept {
    const Slice& slice = c.plan->slices->parts[i];
    const Plan& plan = *c.plan->slices->plans[slice.plan];
    const bool alone = team.size == 1;
    void** own = slots.data() + c.plan->slots + plan.slots * static_cast<size_t>(tid);
    fill_slots(plan, own, [&](const Location& l) { return resolve_in_slice(l, c, slice, alone ? tid : 0); });
    run_works(plan, own, scratch_for(*c.plan, tid), team, alone && tid != 0 ? nullptr : c.seconds);
  }

  std::byte* scratch_for(const Plan& plan, int tid) const noexcept {
    return scratch.data() + aligned(plan.scratch_bytes) * static_cast<size_t>(tid);
  }

  // As many slices for each thread as go round, then the others by all threads together.
  void run_slices(const Call& c, const Team& team) noexcept {
    const auto tid = static_cast<size_t>(team.tid), size = static_cast<size_t>(team.size);
    const size_t count = c.plan->slices->parts.size(), each = count / size;
    for (size_t i = tid * each; i < (tid + 1) * each; ++i) run_slice(c, i, team.tid, {0, 1, nullptr, nullptr});
    for (size_t i = each * size; i < count; ++i) {
      team.meet();
      run_slice(c, i, team.tid, team);
    }
    team.meet();
  }

  static void run_team(void* context, int tid, int threads) noexcept {
    const Call& c = *static_cast<const Call*>(context);
    const DefaultFloatMode mode;
    const Team team{tid, threads, &c.frame->barrier, &c.frame->meeting};
    double* seconds = c.seconds;
    if (c.plan->slices != nullptr) {
      c.frame->run_slices(c, team);
      if (seconds != nullptr) seconds += c.plan->slices->plans[0]->works.size();
    }
    run_works(*c.plan, c.frame->slots.data(), c.frame->scratch_for(*c.plan, tid), team, seconds);
  }

  void run(const Plan& plan, std::span<const void* const> in, std::span<void* const> out, int threads,
           double* seconds) noexcept {
    Call call{this, &plan, in, out, seconds};
    fill_slots(plan, slots.data(), [&](const Location& l) { return resolve(l, call); });
    parallel_region(threads, run_team, &call);
  }
};

// Gives the frame back at the end of a call.
struct Executable::FrameLease {
  FrameLease(Executable& owner, const Plan& plan, int threads)
      : executable(owner), frame(owner.acquire(plan, threads)) {}
  ~FrameLease() { executable.release(std::move(frame)); }
  FrameLease(const FrameLease&) = delete;
  FrameLease& operator=(const FrameLease&) = delete;

  Executable& executable;
  std::unique_ptr<Frame> frame;
};

Executable::Executable(std::shared_ptr<const Program> program, Isa isa, bool release)
    : loaded_(std::make_shared<const LoadedProgram>(std::move(program), isa, release)) {
  refresh_thread_pool();
}

Executable::~Executable() = default;

std::shared_ptr<const Plan> Executable::cached(const std::vector<InputLayout>& inputs) {
  const std::lock_guard<std::mutex> guard(plans_mutex_);
  for (auto it = plans_.begin(); it != plans_.end(); ++it) {
    if ((*it)->inputs != inputs) continue;
    plans_.splice(plans_.begin(), plans_, it);
    return plans_.front();
  }
  return nullptr;
}

std::shared_ptr<const Plan> Executable::plan(std::vector<InputLayout> inputs) {
  for (InputLayout& input : inputs) {
    if (input.shape.size() == input.strides.size()) canonicalize_strides(input.shape, input.strides);
  }
  if (auto known = cached(inputs)) return known;
  refresh_thread_pool();
  auto made = std::make_shared<const Plan>(make_plan(loaded_, inputs, PlanOptions{}, &phases_));
  if (auto known = cached(inputs)) return known;  // another thread was faster
  const std::lock_guard<std::mutex> guard(plans_mutex_);
  plans_.push_front(made);
  if (plans_.size() > kMaxPlans) plans_.pop_back();
  return made;
}

size_t Executable::cached_plans() const {
  const std::lock_guard<std::mutex> guard(plans_mutex_);
  return plans_.size();
}

std::unique_ptr<Executable::Frame> Executable::acquire(const Plan& plan, int threads) {
  std::unique_ptr<Frame> frame;
  {
    const std::lock_guard<std::mutex> guard(frames_mutex_);
    if (frames_.empty()) {
      frames_.reserve(++frame_count_);  // so that release never allocates
    } else {
      frame = std::move(frames_.back());
      frames_.pop_back();
    }
  }
  try {
    if (frame == nullptr) frame = std::make_unique<Frame>();
    frame->grow(plan, threads);
  } catch (...) {
    if (frame != nullptr) release(std::move(frame));
    throw;
  }
  return frame;
}

void Executable::release(std::unique_ptr<Frame> frame) noexcept {
  const std::lock_guard<std::mutex> guard(frames_mutex_);
  frames_.push_back(std::move(frame));
}

void Executable::run(const Plan& plan, std::span<const void* const> in, std::span<void* const> out, int threads) {
  if (work_count(plan) == 0) return;
  const int team = team_size(plan, threads);
  const FrameLease lease(*this, plan, team);
  lease.frame->run(plan, in, out, team, nullptr);
}

std::vector<double> Executable::time_works(const Plan& plan, std::span<const void* const> in,
                                           std::span<void* const> out, int threads) {
  const int team = team_size(plan, threads);
  std::vector<double> seconds(work_count(plan), 0.0);
  const FrameLease lease(*this, plan, team);
  lease.frame->run(plan, in, out, team, seconds.data());
  return seconds;
}

void Executable::run_and_visit(const std::vector<InputLayout>& inputs, std::span<const void* const> in,
                               std::span<void* const> out, std::span<const int> ids, int threads,
                               const Visitor& visit) {
  const Plan plan = make_plan(loaded_, inputs, PlanOptions{.keep_values = true});
  const int team = team_size(plan, threads);
  for (const int id : ids) {
    const bool known = id >= 0 && id < static_cast<int>(plan.values.size()) && plan.values[id].defined;
    if (!known) throw InputError("value_ids", "Value " + std::to_string(id) + " can't be read from this program.");
  }
  Frame frame;
  frame.grow(plan, team);
  frame.run(plan, in, out, team, nullptr);
  for (const int id : ids) {
    const PlannedValue& value = plan.values[id];
    visit(id, value.shape, frame.resolve(value.location, {&frame, &plan, in, out, nullptr}));
  }
}

}  // namespace qfx
