#include <cstdlib>
#include <stdexcept>
#include <string>
#include <utility>

#include "harness.h"

using namespace qfx;

namespace {

// Sets QFX_ISA for its lifetime.
struct IsaVariable {
  explicit IsaVariable(const char* value) { setenv("QFX_ISA", value, 1); }
  ~IsaVariable() { unsetenv("QFX_ISA"); }
};

template <class Fn>
std::string error_of(Fn&& fn) {
  try {
    fn();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "";
}

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
  const std::string message = error_of([] { selected_isa(); });
  CHECK(message.find("QFX_ISA=avx1024") != std::string::npos);
  for (const Isa level : isa_levels()) CHECK(message.find(isa_name(level)) != std::string::npos);
}

TEST(isa_a_level_of_another_architecture_or_a_better_cpu_is_a_clear_error) {
#if defined(__x86_64__)
  const char* foreign = "neon";
#else
  const char* foreign = "avx2";
#endif
  CHECK(error_of([&] { parse_isa(foreign); }).find("another architecture") != std::string::npos);
  for (const Isa level : isa_levels()) {
    if (supported(level)) continue;
    const std::string message = error_of([&] { parse_isa(isa_name(level)); });
    CHECK(message.find("this machine has no level ") != std::string::npos);
    CHECK(message.find(why_unsupported(level)) != std::string::npos);
  }
}

TEST(isa_a_level_includes_what_it_extends_and_nothing_else) {
  CHECK(includes(Isa::amx, Isa::avx512vnni) && includes(Isa::amx, Isa::avx2) && includes(Isa::amx, Isa::scalar));
  CHECK(includes(Isa::avx2, Isa::avx2) && !includes(Isa::avx2, Isa::avxvnni));
  CHECK(!includes(Isa::avx512vnni, Isa::avxvnni) && !includes(Isa::avxvnni, Isa::avx512vnni));
  CHECK(includes(Isa::i8mm, Isa::neon) && !includes(Isa::neon, Isa::dotprod) && !includes(Isa::i8mm, Isa::avx2));
  CHECK(supported(Isa::scalar) && supported(detect_isa()));
}

TEST(isa_what_a_level_lacks_is_told_where_it_lacks_something) {
  for (const Isa level : isa_levels()) CHECK_EQ(why_unsupported(level).empty(), supported(level));
#if defined(__x86_64__)
  CHECK(why_unsupported(Isa::i8mm).find("another architecture") != std::string::npos);
  const std::string found = cpu_description() + " ";
  for (const auto& [feature, level] :
       {std::pair("avx2", Isa::avx2), std::pair("avx_vnni", Isa::avxvnni), std::pair("avx512_vnni", Isa::avx512vnni),
        std::pair("amx_tile", Isa::amx), std::pair("amx_int8", Isa::amx)}) {
    const bool has = found.find(std::string(" ") + feature + " ") != std::string::npos;
    CHECK_EQ(why_unsupported(level).find(feature) == std::string::npos, has);
  }
#endif
}

TEST(isa_the_description_is_one_line) {
  CHECK(!cpu_description().empty());
  CHECK(cpu_description().find('\n') == std::string::npos);
  CHECK(cpu_description().find('\0') == std::string::npos);
}
