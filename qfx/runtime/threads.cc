#include "runtime/threads.h"

#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <new>
#include <set>
#include <string>
#include <thread>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace qfx {
namespace {

constexpr int kMaxThreads = 1024;
constexpr int kSpins = 1000;       // pauses of about 20 ns
constexpr int kIdleSpins = 20000;  // before a worker of our own parks

inline void pause_cpu() noexcept {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// The first line of the CPU's sibling list is the same for all hyperthreads of one core.
std::string core_of(int cpu) {
  const std::string path = "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list";
  std::string line = std::to_string(cpu);
  if (FILE* file = std::fopen(path.c_str(), "r")) {
    char text[128];
    if (std::fgets(text, sizeof text, file) != nullptr) line = text;
    std::fclose(file);
  }
  return line;
}

int physical_cores() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) {
    return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  }
  std::set<std::string> cores;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &allowed)) cores.insert(core_of(cpu));
  }
  return std::max(1, static_cast<int>(cores.size()));
}

std::atomic<int> chosen_threads{0};

// libgomp's entry points, looked up in the copy that the process has already loaded.
struct Gomp {
  void (*parallel)(void (*)(void*), void*, unsigned, unsigned) = nullptr;
  int (*thread_num)() = nullptr;
  int (*num_threads)() = nullptr;

  bool find() noexcept {
    void* library = dlopen("libgomp.so.1", RTLD_LAZY | RTLD_NOLOAD);
    if (library == nullptr) return false;
    parallel = reinterpret_cast<decltype(parallel)>(dlsym(library, "GOMP_parallel"));
    thread_num = reinterpret_cast<decltype(thread_num)>(dlsym(library, "omp_get_thread_num"));
    num_threads = reinterpret_cast<decltype(num_threads)>(dlsym(library, "omp_get_num_threads"));
    return parallel != nullptr && thread_num != nullptr && num_threads != nullptr;
  }
};

struct Region {
  RegionBody body = nullptr;
  void* context = nullptr;
  int threads = 0;
};

// Workers wait spinning for a short while after a region, then asleep.
class Pool {
 public:
  void run(const Region& region) noexcept {
    std::unique_lock<std::mutex> lock(busy_, std::try_to_lock);
    const int threads = lock.owns_lock() ? std::min(region.threads, grow(region.threads - 1) + 1) : 1;
    if (threads == 1) return region.body(region.context, 0, 1);
    region_ = {region.body, region.context, threads};
    pending_.store(workers_, std::memory_order_relaxed);
    generation_.fetch_add(1);
    if (sleepers_.load() > 0) {
      const std::scoped_lock guard(sleep_);
      wake_.notify_all();
    }
    region.body(region.context, 0, threads);
    Spin spin;
    while (pending_.load(std::memory_order_acquire) != 0) spin.wait();
  }

 private:
  // Returns the number of workers, fewer than asked for where the system gives no more threads.
  int grow(int workers) noexcept {
    try {
      for (; workers_ < workers; ++workers_) {
        const uint64_t seen = generation_.load();
        std::thread([this, tid = workers_ + 1, seen] { work(tid, seen); }).detach();
      }
    } catch (const std::exception&) {
      return workers_;
    }
    return workers_;
  }

  void work(int tid, uint64_t seen) noexcept {
    for (;;) {
      await(seen);
      ++seen;
      const Region region = region_;
      if (tid < region.threads) region.body(region.context, tid, region.threads);
      pending_.fetch_sub(1, std::memory_order_release);
    }
  }

  void await(uint64_t seen) noexcept {
    for (int i = 0; i < kIdleSpins; ++i) {
      if (generation_.load(std::memory_order_acquire) != seen) return;
      pause_cpu();
    }
    std::unique_lock<std::mutex> guard(sleep_);
    sleepers_.fetch_add(1);
    wake_.wait(guard, [&] { return generation_.load() != seen; });
    sleepers_.fetch_sub(1);
  }

  std::mutex busy_, sleep_;
  std::condition_variable wake_;
  std::atomic<uint64_t> generation_{0};
  std::atomic<int> pending_{0}, sleepers_{0};
  Region region_;
  int workers_ = 0;
};

struct Pools {
  std::atomic<CallersPool> callers{nullptr};
  std::atomic<void*> callers_context{nullptr};
  Gomp gomp;
  std::atomic<bool> use_gomp{false};
  std::mutex mutex;
  std::atomic<Pool*> own{nullptr};  // never destroyed: its threads outlive static destruction
};

Pools& pools() {
  static auto* const instance = new Pools();
  return *instance;
}

// A forked child has none of its parent's workers: neither libgomp's nor ours may be used again.
bool forked = false;
void after_fork() {
  forked = true;
  pools().use_gomp.store(false);
  pools().own.store(nullptr);
}

Pool* own_pool() {
  Pools& p = pools();
  Pool* pool = p.own.load(std::memory_order_acquire);
  if (pool != nullptr) return pool;
  auto* fresh = new (std::nothrow) Pool();
  if (fresh == nullptr) return nullptr;
  if (p.own.compare_exchange_strong(pool, fresh)) return fresh;
  delete fresh;
  return pool;
}

void gomp_entry(void* data) {
  const auto& region = *static_cast<const Region*>(data);
  const Gomp& gomp = pools().gomp;
  region.body(region.context, gomp.thread_num(), gomp.num_threads());
}

}  // namespace

void set_num_threads(int threads) noexcept {
  chosen_threads.store(std::clamp(threads, 0, kMaxThreads));
}

int num_threads(int fallback) noexcept {
  if (const int chosen = chosen_threads.load(std::memory_order_relaxed); chosen > 0) return chosen;
  if (fallback > 0) return std::min(fallback, kMaxThreads);
  static const int cores = physical_cores();
  return cores;
}

void refresh_thread_pool() noexcept {
  static std::once_flag registered;
  std::call_once(registered, [] { pthread_atfork(nullptr, nullptr, after_fork); });
  Pools& p = pools();
  if (p.use_gomp.load(std::memory_order_acquire) || forked) return;
  const std::scoped_lock guard(p.mutex);
  if (!p.use_gomp.load() && p.gomp.find()) p.use_gomp.store(true, std::memory_order_release);
}

void set_thread_pool(CallersPool run, void* pool) noexcept {
  pools().callers_context.store(pool);
  pools().callers.store(run);
}

const char* thread_pool_name() noexcept {
  if (pools().callers.load() != nullptr) return "caller";
  return pools().use_gomp.load() ? "libgomp" : "qfx";
}

void parallel_region(int threads, RegionBody body, void* context) noexcept {
  if (threads <= 1) return body(context, 0, 1);
  if (const CallersPool run = pools().callers.load(std::memory_order_acquire)) {
    return run(pools().callers_context.load(std::memory_order_relaxed), threads, body, context);
  }
  Region region{body, context, threads};
  if (pools().use_gomp.load(std::memory_order_acquire)) {
    return pools().gomp.parallel(gomp_entry, &region, static_cast<unsigned>(threads), 0);
  }
  Pool* pool = own_pool();
  if (pool == nullptr) return body(context, 0, 1);
  pool->run(region);
}

void Spin::wait() noexcept {
  if (++count_ < kSpins) {
    pause_cpu();
  } else {
    sched_yield();
  }
}

}  // namespace qfx
