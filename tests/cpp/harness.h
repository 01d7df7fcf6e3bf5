#pragma once
#include <cstddef>
#include <cstdint>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/isa.h"
#include "core/work.h"

namespace qfx::test {

// Registers itself; listed by --list, run by --run NAME. --ledger FILE writes which kernels ran (see ledger.h) to a
// file. A run of all prints it too, and fails where a kernel that is here ran nowhere.
struct Case {
  Case(const char* name, void (*body)());
  const char* name;
  void (*body)();
};

struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

[[noreturn]] void fail(const char* file, int line, const std::string& what);

template <class T>
std::string shown(const T& value) {
  std::ostringstream out;
  if constexpr (sizeof(T) == 1 && std::is_integral_v<T>)
    out << static_cast<int>(value);
  else if constexpr (std::is_enum_v<T>)
    out << static_cast<long long>(value);
  else
    out << value;
  return out.str();
}

template <class A, class B>
void check_eq(const A& a, const B& b, const char* text, const char* file, int line) {
  if (!(a == b)) fail(file, line, std::string(text) + ": " + shown(a) + " != " + shown(b));
}

// Deterministic (splitmix64): the same numbers on every platform.
class Rng {
 public:
  explicit Rng(uint64_t seed) : state_(seed) {}
  uint64_t next() noexcept;
  int64_t integer(int64_t lo, int64_t hi) noexcept;  // lo..hi, both included
  double real(double lo, double hi) noexcept;        // [lo, hi)
  template <class T>
  const T& pick(const std::vector<T>& from) {
    return from[static_cast<size_t>(integer(0, static_cast<int64_t>(from.size()) - 1))];
  }

 private:
  uint64_t state_;
};

// `bytes` bytes that end, after `slack` more, right before an inaccessible page: any access further on is a
// segmentation fault. Writes in front of the data or into the slack are seen by intact(). Page-end placement
// means that data() is aligned only as (bytes + slack) is.
class GuardedBuffer {
 public:
  explicit GuardedBuffer(size_t bytes, size_t slack = 0);
  ~GuardedBuffer();
  GuardedBuffer(const GuardedBuffer&) = delete;
  GuardedBuffer& operator=(const GuardedBuffer&) = delete;

  template <class T = uint8_t>
  T* data() const noexcept {
    return reinterpret_cast<T*>(data_);
  }
  size_t bytes() const noexcept { return bytes_; }
  bool intact() const noexcept;
  void fill(Rng& rng) noexcept;  // random bytes
  void fill(uint8_t value) noexcept;

 private:
  uint8_t* map_;
  size_t map_bytes_;
  uint8_t* data_;
  size_t bytes_, slack_;
};

// The levels that this machine can run, scalar first.
std::vector<Isa> isas();

// Runs every part of `work`, each with scratch of its own (guarded), in reverse order of tid, so that a
// dependence between the parts shows. Notes the kernels in the ledger.
void run(const Work& work, const std::vector<const void*>& in, const std::vector<void*>& out, int threads);

}  // namespace qfx::test

#define TEST(name)                                                \
  static void test_##name();                                      \
  static const ::qfx::test::Case case_##name(#name, test_##name); \
  static void test_##name()

#define CHECK(condition)                                                 \
  do {                                                                   \
    if (!(condition)) ::qfx::test::fail(__FILE__, __LINE__, #condition); \
  } while (false)

#define CHECK_EQ(a, b) ::qfx::test::check_eq((a), (b), #a " == " #b, __FILE__, __LINE__)

#define CHECK_THROWS(exception, expression)                                                       \
  do {                                                                                            \
    bool thrown = false;                                                                          \
    try {                                                                                         \
      (void)(expression);                                                                         \
    } catch (const exception&) {                                                                  \
      thrown = true;                                                                              \
    }                                                                                             \
    if (!thrown) ::qfx::test::fail(__FILE__, __LINE__, #expression " did not throw " #exception); \
  } while (false)
