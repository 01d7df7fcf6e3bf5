#include <algorithm>
#include <string>

#include "conv/depthwise.h"
#include "gemm/tile.h"
#include "harness.h"
#include "ledger.h"

using namespace qfx;
using test::LedgerLine;

namespace {

#if defined(__x86_64__)
constexpr const char* kForeign = "binary_u8_x16__neon";
#else
constexpr const char* kForeign = "binary_u8_x32__avx2";
#endif

const LedgerLine* find(const std::vector<LedgerLine>& lines, const std::string& name) {
  const auto at = std::find_if(lines.begin(), lines.end(), [&](const LedgerLine& line) { return line.name == name; });
  return at == lines.end() ? nullptr : &*at;
}

struct Idle final : Work {
  void run(const void* const*, void* const*, std::byte*, int, int) const noexcept override {}
  int64_t cost() const noexcept override { return 0; }
  std::vector<const char*> kernels() const override { return {kForeign}; }
};

struct Described final : Work {
  void run(const void* const*, void* const*, std::byte*, int, int) const noexcept override {}
  int64_t cost() const noexcept override { return 1; }
  std::string details() const override { return std::string(kForeign) + " does not run here"; }
};

}  // namespace

TEST(ledger_has_every_conv_kernel_that_is_built) {
  const auto lines = test::ledger();
  for (const auto& kernel : gemm::kernels()) CHECK(find(lines, kernel.name) != nullptr);
  for (const auto& kernel : conv::depthwise_kernels()) CHECK(find(lines, kernel.name) != nullptr);
}

TEST(ledger_has_the_levels_of_every_architecture) {
  const auto lines = test::ledger();
  for (const Isa isa : every_isa()) {
    CHECK(std::any_of(lines.begin(), lines.end(), [&](const LedgerLine& line) { return line.isa == isa; }));
  }
}

TEST(ledger_counts_kernels_and_no_words) {
  test::run(Described(), {}, {}, 1);
  const auto lines = test::ledger();
  const LedgerLine* line = find(lines, kForeign);
  CHECK(line != nullptr && line->where == "nowhere");
}

TEST(ledger_takes_no_kernel_that_is_not_listed) {
  CHECK_THROWS(test::Failure, test::note_kernel("gemm__nowhere"));
}

TEST(ledger_counts_no_kernel_that_had_nothing_to_compute) {
  test::run(Idle(), {}, {}, 1);
  const auto lines = test::ledger();
  const LedgerLine* line = find(lines, kForeign);
  CHECK(line != nullptr && line->where == "nowhere");
}
