#include "runtime/executable.h"

#include <algorithm>
#include <chrono>

#include "runtime/errors.h"
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

struct RunContext {
  const Plan* plan;
  void* const* slots;
  std::byte* scratch;
  size_t scratch_stride;
  Barrier* barrier;
  Clock::time_point* stamps;  // null, or one a work and one more: then all threads meet before each work
};

void run_work(const RunContext& c, const PlannedWork& work, void* const* slots, int tid, int threads) noexcept {
  const int team = std::min(threads, work.max_threads);
  if (tid >= team) return;
  std::byte* scratch = c.scratch + static_cast<size_t>(tid) * c.scratch_stride;
  work.work->run(slots, slots + work.in.size(), scratch, tid, team);
}

void run_team(void* context, int tid, int threads) noexcept {
  const auto& c = *static_cast<const RunContext*>(context);
  const DefaultFloatMode mode;
  void* const* slots = c.slots;
  size_t at = 0;
  for (const PlannedWork& work : c.plan->works) {
    if (threads > 1 && (work.barrier || c.stamps != nullptr)) c.barrier->wait(threads);
    if (c.stamps != nullptr && tid == 0) c.stamps[at] = Clock::now();
    run_work(c, work, slots, tid, threads);
    slots += work.in.size() + 1;
    ++at;
  }
  if (c.stamps == nullptr) return;
  if (threads > 1) c.barrier->wait(threads);
  if (tid == 0) c.stamps[at] = Clock::now();
}

size_t scratch_stride(const Plan& plan) {
  return (plan.scratch_bytes + AlignedBuffer::kAlignment - 1) / AlignedBuffer::kAlignment * AlignedBuffer::kAlignment;
}

int team_size(const Plan& plan, int threads) {
  return std::min(num_threads(threads), plan.max_threads);
}

}  // namespace

// The working memory of one call.
struct Executable::Frame {
  AlignedBuffer arena, scratch;
  std::vector<void*> slots;
  Barrier barrier;

  void grow(const Plan& plan, int threads) {
    const auto arena_bytes = static_cast<size_t>(plan.arena_bytes);
    const size_t scratch_bytes = scratch_stride(plan) * static_cast<size_t>(threads);
    if (arena.data() == nullptr || arena.size() < arena_bytes) {
      arena = AlignedBuffer();
      arena = AlignedBuffer(arena_bytes);
    }
    if (scratch.data() == nullptr || scratch.size() < scratch_bytes) scratch = AlignedBuffer(scratch_bytes);
    if (slots.size() < plan.slots) slots.resize(plan.slots);
  }

  void* resolve(const Location& l, const Plan& plan, std::span<const void* const> in,
                std::span<void* const> out) const noexcept {
    using Base = Location::Base;
    const std::byte* base = arena.data();
    if (l.base == Base::input) base = static_cast<const std::byte*>(in[l.index]);
    if (l.base == Base::output) base = static_cast<const std::byte*>(out[l.index]);
    if (l.base == Base::constant) base = plan.loaded->program->constants()[l.index].data.data();
    return const_cast<std::byte*>(base + l.offset);
  }

  void fill_slots(const Plan& plan, std::span<const void* const> in, std::span<void* const> out) noexcept {
    size_t at = 0;
    for (const PlannedWork& work : plan.works) {
      for (const Location& l : work.in) slots[at++] = resolve(l, plan, in, out);
      slots[at++] = resolve(work.out, plan, in, out);
    }
  }

  void run(const Plan& plan, std::span<const void* const> in, std::span<void* const> out, int threads,
           Clock::time_point* stamps) noexcept {
    fill_slots(plan, in, out);
    RunContext context{&plan, slots.data(), scratch.data(), scratch_stride(plan), &barrier, stamps};
    parallel_region(threads, run_team, &context);
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

Executable::Executable(std::shared_ptr<const Program> program, Isa isa)
    : loaded_(std::make_shared<const LoadedProgram>(std::move(program), isa)) {
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
  auto made = std::make_shared<const Plan>(make_plan(loaded_, inputs, PlanOptions{}));
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
  if (plan.works.empty()) return;
  const int team = team_size(plan, threads);
  const FrameLease lease(*this, plan, team);
  lease.frame->run(plan, in, out, team, nullptr);
}

std::vector<double> Executable::time_works(const Plan& plan, std::span<const void* const> in,
                                           std::span<void* const> out, int threads) {
  const int team = team_size(plan, threads);
  std::vector<Clock::time_point> stamps(plan.works.size() + 1);
  const FrameLease lease(*this, plan, team);
  lease.frame->run(plan, in, out, team, stamps.data());
  std::vector<double> seconds;
  for (size_t i = 0; i + 1 < stamps.size(); ++i) {
    seconds.push_back(std::chrono::duration<double>(stamps[i + 1] - stamps[i]).count());
  }
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
    visit(id, value.shape, frame.resolve(value.location, plan, in, out));
  }
}

}  // namespace qfx
