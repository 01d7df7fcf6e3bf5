#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace qfx {

// Where the threads that run one Work wait for one another.
class Meeting {
 public:
  // Returns when `threads` threads have called it; what they wrote before is seen by all of them after.
  virtual void wait(int threads) noexcept = 0;

 protected:
  ~Meeting() = default;
};

// One kernel bound to concrete shapes. Immutable; `run` may be called from many threads at once,
// each team with its own scratch. Within a team every thread 0..threads-1 calls run exactly once;
// the parts they compute are disjoint and together complete, and need no barrier between them.
class Work {
 public:
  virtual ~Work() = default;

  // in/out: base pointers of the step's values in the order of the step's operands.
  // scratch: scratch_bytes() bytes for this thread alone, 64-byte aligned.
  virtual void run(const void* const* in, void* const* out, std::byte* scratch, int tid,
                   int threads) const noexcept = 0;

  // The same for a team whose threads really run at the same time, with a meeting of their own. For a Work whose parts
  // need what others compute: its run() leaves everything to thread 0.
  virtual void run_together(const void* const* in, void* const* out, std::byte* scratch, int tid, int threads,
                            Meeting&) const noexcept {
    run(in, out, scratch, tid, threads);
  }

  // Whether run_together uses its Meeting, which all works of a plan share: no thread may still be in one before.
  virtual bool meets() const noexcept { return false; }

  virtual size_t scratch_bytes() const noexcept { return 0; }

  // Whether run() met values that it can't take, in the part that had `scratch`, where it has said so: results are
  // worth nothing then. Asked on the same thread, right after it.
  virtual bool refused(const std::byte* /*scratch*/) const noexcept { return false; }

  // What was wrong with them.
  virtual std::string refusal() const { return {}; }

  // An estimate of the work: bytes touched plus multiply-accumulates, for the choice of thread count;
  // of a Work whose threads meet, between two meetings.
  virtual int64_t cost() const noexcept = 0;

  // Multiply-accumulates of a convolution, a layer or a product of integers, those with padding too; 0 of other works.
  virtual int64_t products() const noexcept { return 0; }

  // The kernels that it runs, each once, by their names in kernels.inc. None where it runs no line of a kernels.inc.
  virtual std::vector<const char*> kernels() const { return {}; }

  // Beside them: tile, and why it was chosen; what it is where it has no kernels. At most one line.
  virtual std::string details() const { return {}; }

  // Kernels and details, in one line.
  std::string describe() const {
    std::string text;
    for (const char* name : kernels()) text += (text.empty() ? "" : " + ") + std::string(name);
    const std::string more = details();
    return text + (text.empty() || more.empty() ? "" : ": ") + more;
  }
};

}  // namespace qfx
