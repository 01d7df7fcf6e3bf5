#include <cstdlib>
#include <stdexcept>
#include <string>

#include "harness.h"

using namespace qfx;

namespace {

// Sets QFX_ISA for its lifetime.
struct IsaVariable {
  explicit IsaVariable(const char* value) { setenv("QFX_ISA", value, 1); }
  ~IsaVariable() { unsetenv("QFX_ISA"); }
};

}  // namespace

TEST(isa_every_lower_level_can_be_forced) {
  for (Isa isa : test::isas()) {
    IsaVariable variable(isa_name(isa));
    CHECK_EQ(selected_isa(), isa);
  }
}

TEST(isa_an_empty_variable_counts_as_unset) {
  IsaVariable variable("");
  CHECK_EQ(selected_isa(), detect_isa());
}

TEST(isa_an_unknown_level_is_an_error_that_lists_the_levels) {
  IsaVariable variable("avx1024");
  std::string message;
  try {
    selected_isa();
  } catch (const std::invalid_argument& error) {
    message = error.what();
  }
  CHECK(message.find("avx1024") != std::string::npos);
  CHECK(message.find("scalar, avx2, avx512vnni") != std::string::npos);
}

TEST(isa_the_description_is_one_line) {
  CHECK(!cpu_description().empty());
  CHECK(cpu_description().find('\n') == std::string::npos);
  CHECK(cpu_description().find('\0') == std::string::npos);
}
