#include "runtime/peaks.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#include "core/split.h"
#include "runtime/threads.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

// The probes name their level by attribute, not by file: they share no code that a level could be inlined into.

namespace qfx {
namespace {

// `run` repeats kChains steps of `macs` multiply-accumulates each.
struct Probe {
  Isa isa;
  int64_t macs;
  void (*run)(int64_t rounds) noexcept;
};

// Independent accumulators: more than a CPU's latency times its dot products a cycle, few enough for registers.
#define QFX_CHAINS(X, ...) \
  X(c0, __VA_ARGS__)       \
  X(c1, __VA_ARGS__)       \
  X(c2, __VA_ARGS__)       \
  X(c3, __VA_ARGS__)       \
  X(c4, __VA_ARGS__)       \
  X(c5, __VA_ARGS__)       \
  X(c6, __VA_ARGS__) X(c7, __VA_ARGS__) X(c8, __VA_ARGS__) X(c9, __VA_ARGS__) X(c10, __VA_ARGS__) X(c11, __VA_ARGS__)
constexpr int64_t kChains = 12;

// `text` accumulates into operand 0 the product of operand 2 with itself; operand 1 is free.
#define QFX_DECLARE(c, constraint, text) auto c = a;
#define QFX_STEP(c, constraint, text) \
  __asm__ volatile(text : "+" constraint(c), "+" constraint(product) : constraint(a));
#define QFX_PROBE(name, attribute, Register, constraint, text) \
  attribute void name(int64_t rounds) noexcept {               \
    Register a;                                                \
    std::memset(&a, 1, sizeof a);                              \
    [[maybe_unused]] Register product = a;                     \
    QFX_CHAINS(QFX_DECLARE, constraint, text)                  \
    for (; rounds > 0; --rounds) {                             \
      QFX_CHAINS(QFX_STEP, constraint, text)                   \
    }                                                          \
  }

void dot_scalar(int64_t rounds) noexcept {
  int32_t a = 1, sums[kChains] = {};
  for (; rounds > 0; --rounds) {
    for (int32_t& sum : sums) {
      __asm__ volatile("" : "+r"(a), "+r"(sum));  // neither may be known, or the loop is one product
      sum += a * a;
    }
  }
  for (int32_t& sum : sums) __asm__ volatile("" ::"r"(sum));
}

// Reads `bytes`, a multiple of 512, from an address that is one of 64, in vectors of the level.
using ReadFn = void(const std::byte* p, int64_t bytes) noexcept;

#define QFX_READ(name, attribute, width, constraint)                           \
  attribute void name(const std::byte* p, int64_t bytes) noexcept {            \
    typedef uint64_t Vector __attribute__((vector_size(width), may_alias));    \
    Vector s0 = {}, s1 = {}, s2 = {}, s3 = {};                                 \
    for (const std::byte* end = p + bytes; p < end; p += 4 * sizeof(Vector)) { \
      const Vector* v = reinterpret_cast<const Vector*>(p);                    \
      s0 ^= v[0], s1 ^= v[1], s2 ^= v[2], s3 ^= v[3];                          \
    }                                                                          \
    s0 ^= s1 ^ s2 ^ s3;                                                        \
    __asm__ volatile("" ::constraint(s0));                                     \
  }

#define QFX_TARGET(level) __attribute__((target(level)))

#if defined(__x86_64__)

QFX_PROBE(dot_avx2, QFX_TARGET("avx2"), __m256i, "x", "vpmaddwd %2, %2, %1\n\tvpaddd %1, %0, %0")
QFX_PROBE(dot_avxvnni, QFX_TARGET("avx2"), __m256i, "x", "%{vex%} vpdpbusd %2, %2, %0")
QFX_PROBE(dot_avx512vnni, QFX_TARGET("avx512f"), __m512i, "v", "vpdpbusd %2, %2, %0")

struct alignas(64) TileShapes {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// Tiles 0 to 5 accumulate; a round is kChains products all the same.
QFX_TARGET("amx-tile,amx-int8") void dot_amx(int64_t rounds) noexcept {
  const TileShapes shapes;
  __asm__ volatile("ldtilecfg %0" ::"m"(shapes));
  for (; rounds > 0; --rounds) {
    for (int half = 0; half < 2; ++half) {
      __asm__ volatile(
          "tdpbusd %%tmm7, %%tmm6, %%tmm0\n\ttdpbusd %%tmm7, %%tmm6, %%tmm1\n\ttdpbusd %%tmm7, %%tmm6, %%tmm2\n\t"
          "tdpbusd %%tmm7, %%tmm6, %%tmm3\n\ttdpbusd %%tmm7, %%tmm6, %%tmm4\n\ttdpbusd %%tmm7, %%tmm6, %%tmm5" ::);
    }
  }
  __asm__ volatile("tilerelease" ::);
}

QFX_READ(read_baseline, , 16, "m")
QFX_READ(read_avx2, QFX_TARGET("avx2"), 32, "x")
QFX_READ(read_avx512, QFX_TARGET("avx512f"), 64, "v")

ReadFn* widest_read() noexcept {
  if (supported(Isa::avx512vnni)) return &read_avx512;
  return supported(Isa::avx2) ? &read_avx2 : &read_baseline;
}

constexpr Probe kProbes[] = {{Isa::scalar, 1, &dot_scalar},
                             {Isa::avx2, 16, &dot_avx2},
                             {Isa::avxvnni, 32, &dot_avxvnni},
                             {Isa::avx512vnni, 64, &dot_avx512vnni},
                             {Isa::amx, 16 * 16 * 64, &dot_amx}};

#elif defined(__aarch64__)

QFX_PROBE(dot_neon, , int16x8_t, "w", "smlal %0.4s, %2.4h, %2.4h")
QFX_PROBE(dot_dotprod, QFX_TARGET("arch=armv8.2-a+dotprod"), int8x16_t, "w", "sdot %0.4s, %2.16b, %2.16b")
QFX_PROBE(dot_i8mm, QFX_TARGET("arch=armv8.2-a+dotprod+i8mm"), int8x16_t, "w", "usmmla %0.4s, %2.16b, %2.16b")

QFX_READ(read_baseline, , 16, "m")

ReadFn* widest_read() noexcept {
  return &read_baseline;
}

constexpr Probe kProbes[] = {{Isa::scalar, 1, &dot_scalar},
                             {Isa::neon, 4, &dot_neon},
                             {Isa::dotprod, 16, &dot_dotprod},
                             {Isa::i8mm, 32, &dot_i8mm}};

#else

QFX_READ(read_baseline, , 16, "m")

ReadFn* widest_read() noexcept {
  return &read_baseline;
}

constexpr Probe kProbes[] = {{Isa::scalar, 1, &dot_scalar}};

#endif

constexpr int kRepeats = 12;         // the best counts: others' time slices and the clock's warming up do not
constexpr double kSeconds = 0.0008;  // of one repeat

// Calls `body(tid, threads)` on a team.
template <class Body>
void on_team(int threads, const Body& body) noexcept {
  parallel_region(
      threads, [](void* context, int tid, int team) noexcept { (*static_cast<const Body*>(context))(tid, team); },
      const_cast<Body*>(&body));
}

// The shortest of `repeats` calls.
template <class Body>
double seconds(int repeats, const Body& body) {
  double best = 1e30;
  for (int i = 0; i < repeats; ++i) {
    const auto start = std::chrono::steady_clock::now();
    body();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

// What `body(amount)` does a second, for an amount that takes about kSeconds.
template <class Body>
double best_rate(int64_t amount, const Body& body) {
  while (seconds(3, [&] { body(amount); }) < kSeconds) amount *= 2;
  return static_cast<double>(amount) / seconds(kRepeats, [&] { body(amount); });
}

}  // namespace

double dot_product_peak(Isa isa, int threads) {
  const Probe* probe = std::ranges::find_if(kProbes, [&](const Probe& p) { return p.isa == isa; });
  refresh_thread_pool();
  std::atomic<int> team = 1;
  const double rounds = best_rate(1000, [&](int64_t count) {
    on_team(threads, [&](int, int size) noexcept {
      team.store(size, std::memory_order_relaxed);
      probe->run(count);
    });
  });
  return rounds * static_cast<double>(team.load() * kChains * probe->macs) * 1e-9;
}

double read_bandwidth(size_t bytes, int threads) {
  constexpr int64_t kGrain = 512;
  constexpr size_t kHugePage = 2 << 20;
  const int64_t size = std::max<int64_t>(1, static_cast<int64_t>(bytes) / kGrain) * kGrain;
  const size_t allocated = (static_cast<size_t>(size) + kHugePage - 1) / kHugePage * kHugePage;
  const std::unique_ptr<std::byte, decltype(&std::free)> buffer(
      static_cast<std::byte*>(std::aligned_alloc(kHugePage, allocated)), &std::free);
  if (buffer == nullptr) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
  madvise(buffer.get(), allocated, MADV_HUGEPAGE);  // a wish: without it, page walks are part of the rate
#endif
  std::memset(buffer.get(), 1, static_cast<size_t>(size));
  refresh_thread_pool();
  ReadFn* const read = widest_read();
  const double passes = best_rate(1, [&](int64_t count) {
    on_team(threads, [&](int tid, int team) noexcept {
      const Range part = split(size, tid, team, kGrain);
      for (int64_t i = 0; i < count; ++i) read(buffer.get() + part.begin, part.end - part.begin);
    });
  });
  return passes * static_cast<double>(size) * 1e-9;
}

}  // namespace qfx
