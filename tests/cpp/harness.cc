#include "harness.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>

#include "ledger.h"

namespace qfx::test {
namespace {

constexpr uint8_t kCanary = 0xa5;

std::vector<const Case*>& registry() {
  static std::vector<const Case*> cases;
  return cases;
}

bool run_case(const Case& c) {
  try {
    c.body();
    std::printf("ok %s\n", c.name);
    return true;
  } catch (const std::exception& error) {
    std::printf("FAILED %s\n  %s\n", c.name, error.what());
    return false;
  }
}

void write_ledger(const char* path) {
  std::FILE* file = std::fopen(path, "w");
  if (file == nullptr) throw std::runtime_error(std::string("cannot write ") + path);
  print(file, ledger());
  std::fclose(file);
}

// Writes the ledger, to a file too where one is named. False where a kernel that this machine has never ran.
bool close_ledger(const char* path) {
  const auto lines = ledger();
  print(stdout, lines);
  if (path != nullptr) write_ledger(path);
  const auto names = untested(lines);
  for (const std::string& name : names) std::printf("FAILED no test ran %s\n", name.c_str());
  return names.empty();
}

int run_one(const std::vector<const Case*>& cases, const char* name, const char* ledger_path) {
  const auto found = std::ranges::find_if(cases, [&](const Case* c) { return std::strcmp(c->name, name) == 0; });
  if (found == cases.end()) {
    std::fprintf(stderr, "no test named %s\n", name);
    return 2;
  }
  const bool passed = run_case(**found);
  if (ledger_path != nullptr) write_ledger(ledger_path);
  return passed ? 0 : 1;
}

int run_all(const std::vector<const Case*>& cases, const char* ledger_path) {
  int failed = 0;
  for (const Case* c : cases) {
    std::fflush(stdout);
    failed += run_case(*c) ? 0 : 1;
  }
  const bool complete = close_ledger(ledger_path);
  std::printf("%d of %zu failed\n", failed, cases.size());
  return failed == 0 && complete ? 0 : 1;
}

}  // namespace

Case::Case(const char* name, void (*body)()) : name(name), body(body) {
  registry().push_back(this);
}

void fail(const char* file, int line, const std::string& what) {
  throw Failure(std::string(file) + ":" + std::to_string(line) + ": " + what);
}

uint64_t Rng::next() noexcept {
  uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

int64_t Rng::integer(int64_t lo, int64_t hi) noexcept {
  return lo + static_cast<int64_t>(next() % static_cast<uint64_t>(hi - lo + 1));
}

double Rng::real(double lo, double hi) noexcept {
  return lo + (hi - lo) * (static_cast<double>(next() >> 11) * 0x1p-53);
}

GuardedBuffer::GuardedBuffer(size_t bytes, size_t slack) : bytes_(bytes), slack_(slack) {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t body = (bytes + slack + page - 1) / page * page;
  map_bytes_ = body + 2 * page;
  void* map = mmap(nullptr, map_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (map == MAP_FAILED) throw std::bad_alloc();
  map_ = static_cast<uint8_t*>(map);
  std::memset(map_ + page, kCanary, body);
  if (mprotect(map_, page, PROT_NONE) != 0 || mprotect(map_ + page + body, page, PROT_NONE) != 0)
    throw std::runtime_error("mprotect failed");
  data_ = map_ + page + body - slack - bytes;
}

GuardedBuffer::~GuardedBuffer() {
  munmap(map_, map_bytes_);
}

bool GuardedBuffer::intact() const noexcept {
  const auto is_canary = [](uint8_t byte) { return byte == kCanary; };
  const uint8_t* first = map_ + sysconf(_SC_PAGESIZE);
  return std::all_of(first, static_cast<const uint8_t*>(data_), is_canary) &&
         std::all_of(data_ + bytes_, data_ + bytes_ + slack_, is_canary);
}

void GuardedBuffer::fill(Rng& rng) noexcept {
  for (size_t i = 0; i < bytes_; ++i) data_[i] = static_cast<uint8_t>(rng.next());
}

void GuardedBuffer::fill(uint8_t value) noexcept {
  if (bytes_ != 0) std::memset(data_, value, bytes_);
}

std::vector<Isa> isas() {
  std::vector<Isa> levels;
  for (const Isa level : isa_levels())
    if (supported(level)) levels.push_back(level);
  return levels;
}

void run(const Work& work, const std::vector<const void*>& in, const std::vector<void*>& out, int threads) {
  for (int tid = threads - 1; tid >= 0; --tid) {
    GuardedBuffer scratch((work.scratch_bytes() + 63) / 64 * 64);
    work.run(in.data(), out.data(), scratch.data<std::byte>(), tid, threads);
    if (!scratch.intact()) throw Failure("a write in front of the scratch: " + work.describe());
  }
  note_run(work);
}

}  // namespace qfx::test

int main(int argc, char** argv) {
  using namespace qfx::test;
  auto cases = registry();
  std::sort(cases.begin(), cases.end(), [](auto* a, auto* b) { return std::strcmp(a->name, b->name) < 0; });
  if (argc == 2 && std::strcmp(argv[1], "--list") == 0) {
    for (const Case* c : cases) std::puts(c->name);
    return 0;
  }
  const bool one = argc >= 3 && std::strcmp(argv[1], "--run") == 0;
  const int rest = one ? 3 : 1;
  const bool to_file = argc == rest + 2 && std::strcmp(argv[rest], "--ledger") == 0;
  if (argc != rest && !to_file) {
    std::fprintf(stderr, "usage: %s [--list | [--run NAME] [--ledger FILE]]\n", argv[0]);
    return 2;
  }
  const char* path = to_file ? argv[rest + 1] : nullptr;
  return one ? run_one(cases, argv[2], path) : run_all(cases, path);
}
