#include "runtime/executable.h"

#include <utility>

#include "runtime/errors.h"
#include "runtime/planner.h"
#include "runtime/shapes.h"

namespace qfx {

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

Executable::Executable(const std::shared_ptr<const Program>& program, Isa isa, Release release, PackingStore* packed,
                       uint64_t most_bytes)
    : loaded_(std::make_shared<const LoadedProgram>(program, isa, release, packed, most_bytes)) {
  refresh_thread_pool();
}

std::shared_ptr<const Plan> Executable::cached(const std::vector<InputLayout>& inputs) {
  const std::scoped_lock guard(plans_mutex_);
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
  std::shared_ptr<const Plan> oldest;             // which takes a while to be gone
  const std::scoped_lock guard(plans_mutex_);
  plans_.push_front(made);
  if (plans_.size() > kMaxPlans) {
    oldest = std::move(plans_.back());
    plans_.pop_back();
  }
  return made;
}

size_t Executable::cached_plans() const {
  const std::scoped_lock guard(plans_mutex_);
  return plans_.size();
}

std::unique_ptr<Frame> Executable::acquire(const Plan& plan, int threads) {
  std::unique_ptr<Frame> frame;
  {
    const std::scoped_lock guard(frames_mutex_);
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
  const std::scoped_lock guard(frames_mutex_);
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
    visit(id, value.shape, frame.value(plan, id, in, out));
  }
}

}  // namespace qfx
