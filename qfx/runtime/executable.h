#pragma once
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "runtime/frame.h"
#include "runtime/loaded.h"
#include "runtime/phase_cache.h"
#include "runtime/plan.h"

namespace qfx {

// A loaded program with its plans and its working memory. All members may be called from many threads at once.
class Executable {
 public:
  static constexpr size_t kMaxPlans = 16;

  // As LoadedProgram. Throws ProgramError, and LimitError.
  Executable(const std::shared_ptr<const Program>& program, Isa isa, Release release = Release::nothing,
             PackingStore* packed = nullptr, uint64_t most_bytes = UINT64_MAX);

  const LoadedProgram& loaded() const noexcept { return *loaded_; }

  // The plan for these inputs, from a cache of the kMaxPlans last used. Throws InputError.
  std::shared_ptr<const Plan> plan(std::vector<InputLayout> inputs);
  size_t cached_plans() const;

  // One forward. `in` and `out`: first elements of the caller's tensors, laid out as the plan says.
  // threads: the team's size if set_num_threads was not called; 0: the default.
  // Throws std::bad_alloc the first time that this much memory is needed at once, and nothing after that.
  void run(const Plan& plan, std::span<const void* const> in, std::span<void* const> out, int threads);

  // Seconds that each work took, with all threads meeting between works.
  std::vector<double> time_works(const Plan& plan, std::span<const void* const> in, std::span<void* const> out,
                                 int threads);

  // A forward without buffer reuse; then `visit` sees the first element of each value in `ids`.
  // Throws InputError for a value that has no dense memory of its own.
  using Visitor = std::function<void(int id, const Dims& shape, const void* data)>;
  void run_and_visit(const std::vector<InputLayout>& inputs, std::span<const void* const> in,
                     std::span<void* const> out, std::span<const int> ids, int threads, const Visitor& visit);

 private:
  struct FrameLease;

  std::shared_ptr<const Plan> cached(const std::vector<InputLayout>& inputs);
  std::unique_ptr<Frame> acquire(const Plan& plan, int threads);
  void release(std::unique_ptr<Frame> frame) noexcept;

  std::shared_ptr<const LoadedProgram> loaded_;
  mutable std::mutex plans_mutex_;
  std::list<std::shared_ptr<const Plan>> plans_;  // the last used first
  PhaseCache phases_;
  std::mutex frames_mutex_;
  std::vector<std::unique_ptr<Frame>> frames_;  // idle ones
  size_t frame_count_ = 0;
};

}  // namespace qfx
