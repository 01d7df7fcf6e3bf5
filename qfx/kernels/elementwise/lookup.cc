#include <algorithm>
#include <stdexcept>

#include "core/split.h"
#include "elementwise/kernels.h"

namespace qfx {
namespace {

using namespace elementwise;

template <class Kind, class T>
class LookupWork final : public Work {
 public:
  LookupWork(int64_t n, std::span<const T> table, Isa isa) : n_(n), kernel_(select<Kind>(isa)) {
    if (n < 0) throw std::invalid_argument("a negative number of elements");
    if (table.size() != 256) throw std::invalid_argument("a lookup table of other than 256 entries");
    std::copy(table.begin(), table.end(), table_);
  }

  void run(const void* const* in, void* const* out, std::byte*, int tid, int threads) const noexcept override {
    const Range part = split(n_, tid, threads, 64);
    kernel_.run(static_cast<const uint8_t*>(in[0]) + part.begin, static_cast<T*>(out[0]) + part.begin,
                part.end - part.begin, table_);
  }

  int64_t cost() const noexcept override { return n_ * static_cast<int64_t>(1 + sizeof(T)); }
  std::vector<const char*> kernels() const override { return {kernel_.name}; }

 private:
  int64_t n_;
  Kernel<Kind> kernel_;
  T table_[256];
};

}  // namespace

std::unique_ptr<Work> plan_lookup_u8(int64_t n, std::span<const uint8_t> table, Isa isa) {
  return std::make_unique<LookupWork<Lookup, uint8_t>>(n, table, isa);
}

std::unique_ptr<Work> plan_lookup_f32(int64_t n, std::span<const float> table, Isa isa) {
  return std::make_unique<LookupWork<LookupFloat, float>>(n, table, isa);
}

}  // namespace qfx
