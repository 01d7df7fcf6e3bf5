#pragma once
#include <atomic>
#include <cstdint>

namespace qfx {

// Threads that a region uses at most. 0 restores the default: the physical cores this process may run on.
void set_num_threads(int threads) noexcept;
// What set_num_threads was given; `fallback` if it was not called, and the default if that is not positive.
int num_threads(int fallback = 0) noexcept;

using RegionBody = void (*)(void* context, int tid, int threads) noexcept;

// Runs body on 1 to `threads` threads at once, and returns when all are done.
// Where a caller has set a pool the region runs on that; else, in a process with libgomp, on its pool, so that it never
// competes with torch's; elsewhere on a pool of our own, which takes one region at a time: a second one at the same
// moment gets one thread.
void parallel_region(int threads, RegionBody body, void* context) noexcept;

// A pool of the caller's: calls body(context, i, n) for each i below an n from 1 to `threads`, all at the same time,
// since they meet at barriers, and returns when all have.
using CallersPool = void (*)(void* pool, int threads, void (*body)(void* context, int tid, int threads), void* context);

// Regions run on this pool from now on; nullptr: as before. For moments at which no region runs.
void set_thread_pool(CallersPool run, void* pool) noexcept;

// "caller", "libgomp" or "qfx", for reports.
const char* thread_pool_name() noexcept;

// Looks for libgomp again; cheap, but not for every region.
void refresh_thread_pool() noexcept;

// Rests a little between two looks at a variable that another thread will change: spins for about 20 us,
// then gives the processor away.
class Spin {
 public:
  void wait() noexcept;

 private:
  int count_ = 0;
};

// All threads of a team meet here. Reusable, no allocation.
class Barrier {
 public:
  void wait(int team) noexcept {
    const uint32_t epoch = epoch_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == team) {
      arrived_.store(0, std::memory_order_relaxed);
      epoch_.store(epoch + 1, std::memory_order_release);
      return;
    }
    Spin spin;
    while (epoch_.load(std::memory_order_acquire) == epoch) spin.wait();
  }

 private:
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<uint32_t> epoch_{0};
};

}  // namespace qfx
