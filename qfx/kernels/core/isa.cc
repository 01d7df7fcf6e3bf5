#include "core/isa.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace qfx {
namespace {

enum class Architecture { any, x86, arm };

enum class Index {
#define QFX_X86_FEATURE(name, leaf, subleaf, reg, bit, states) name,
#define QFX_ARM_FEATURE(name, type, bit) name,
#include "core/isa.inc"
};

// The mask of each feature.
namespace feature {
#define QFX_MASK(name) [[maybe_unused]] constexpr uint64_t name = uint64_t{1} << static_cast<int>(Index::name);
#define QFX_X86_FEATURE(name, leaf, subleaf, reg, bit, states) QFX_MASK(name)
#define QFX_ARM_FEATURE(name, type, bit) QFX_MASK(name)
#include "core/isa.inc"
#undef QFX_MASK

// What a level adds to its parent.
#define QFX_ISA(name, architecture, parent, features, flags, model) constexpr uint64_t of_##name = features;
#include "core/isa.inc"
}  // namespace feature

struct Level {
  Isa isa;
  const char* name;
  Architecture architecture;
  Isa base;  // the level it extends; scalar extends itself
  uint64_t adds;
  Isa model;
};

constexpr Level kAllLevels[] = {
#define QFX_ISA(name, architecture, parent, features, flags, model) \
  {Isa::name, #name, Architecture::architecture, Isa::parent, feature::of_##name, Isa::model},
#include "core/isa.inc"
};

constexpr Isa kEvery[] = {
#define QFX_ISA(name, architecture, parent, features, flags, model) Isa::name,
#include "core/isa.inc"
};

constexpr const Level& level_of(Isa isa) noexcept {
  return kAllLevels[static_cast<int>(isa)];
}

// All that a level needs.
uint64_t needs(Isa isa) noexcept {
  const Level& level = level_of(isa);
  return level.base == isa ? level.adds : level.adds | needs(level.base);
}

enum class Presence { found, cpu_lacks_it, state_not_saved };

#if defined(__x86_64__)

constexpr Architecture kBuiltFor = Architecture::x86;
constexpr const char* kArchitecture = "x86-64";

struct Registers {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

// All zero for a leaf that this CPU lacks.
Registers cpuid(unsigned leaf, unsigned subleaf = 0) noexcept {
  Registers r;
  if (__get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx) == 0) return {};
  return r;
}

// The register states that the operating system saves on a context switch (XCR0); 0 without xsave.
unsigned saved_states() noexcept {
  constexpr unsigned kOsxsave = 1u << 27;
  if ((cpuid(1).ecx & kOsxsave) == 0) return 0;
  unsigned low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

constexpr unsigned kYmmStates = 0x06;  // xmm, ymm
constexpr unsigned kZmmStates = 0xe6;  // and opmask, zmm0-15 upper, zmm16-31

constexpr unsigned kTileStates = 0x60000;

enum Register { eax, ebx, ecx, edx };

struct Feature {
  const char* name;
  uint64_t mask;
  unsigned leaf, subleaf;
  Register reg;
  int bit;
  unsigned states;  // XCR0 bits it is useless without
};

constexpr Feature kFeatures[] = {
#define QFX_X86_FEATURE(name, leaf, subleaf, reg, bit, states) {#name, feature::name, leaf, subleaf, reg, bit, states},
#include "core/isa.inc"
};

Presence presence(const Feature& f) noexcept {
  const Registers r = cpuid(f.leaf, f.subleaf);
  const unsigned words[] = {r.eax, r.ebx, r.ecx, r.edx};
  if ((words[f.reg] >> f.bit & 1u) == 0) return Presence::cpu_lacks_it;
  return (saved_states() & f.states) == f.states ? Presence::found : Presence::state_not_saved;
}

// errno of the request for the registers that the operating system grants a process only when asked; 0: granted, for
// all its threads. Linux asks for that with the tile registers, since 5.16.
int refusal([[maybe_unused]] Isa level) noexcept {
#if defined(__linux__)
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  if ((needs(level) & feature::amx_tile) == 0) return 0;
  static const int error = syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0 ? 0 : errno;
  return error;
#else
  return 0;
#endif
}

std::string vendor() {
  const Registers r = cpuid(0);
  const unsigned words[] = {r.ebx, r.edx, r.ecx};
  return {reinterpret_cast<const char*>(words), sizeof words};
}

std::string brand() {
  std::string text;
  for (unsigned leaf = 0x80000002u; leaf <= 0x80000004u; ++leaf) {
    const Registers r = cpuid(leaf);
    const unsigned words[] = {r.eax, r.ebx, r.ecx, r.edx};
    text.append(reinterpret_cast<const char*>(words), sizeof words);
  }
  const size_t end = text.find('\0');
  if (end != std::string::npos) text.resize(end);
  const size_t first = text.find_first_not_of(' ');
  const size_t last = text.find_last_not_of(' ');
  return first == std::string::npos ? "unknown" : text.substr(first, last - first + 1);
}

#elif defined(__aarch64__)

constexpr Architecture kBuiltFor = Architecture::arm;
constexpr const char* kArchitecture = "AArch64";
constexpr unsigned long kHwcap = 16, kHwcap2 = 26;  // AT_HWCAP, AT_HWCAP2

struct Feature {
  const char* name;
  uint64_t mask;
  unsigned long type;  // of getauxval
  int bit;
};

constexpr Feature kFeatures[] = {
#define QFX_ARM_FEATURE(name, type, bit) {#name, feature::name, type, bit},
#include "core/isa.inc"
};

Presence presence(const Feature& f) noexcept {
#if defined(__linux__)
  const bool found = (getauxval(f.type) >> f.bit & 1) != 0;
#else
  const bool found = f.mask == feature::asimd;  // every AArch64 CPU has it
#endif
  return found ? Presence::found : Presence::cpu_lacks_it;
}

int refusal(Isa) noexcept {
  return 0;
}

#else

constexpr Architecture kBuiltFor = Architecture::any;
constexpr const char* kArchitecture = "an architecture with portable kernels only";

struct Feature {
  const char* name;
  uint64_t mask;
};

constexpr std::span<const Feature> kFeatures;

Presence presence(const Feature&) noexcept {
  return Presence::cpu_lacks_it;
}

int refusal(Isa) noexcept {
  return 0;
}

#endif

constexpr bool built(Architecture architecture) noexcept {
  return architecture == Architecture::any || architecture == kBuiltFor;
}

constexpr int kBuiltCount = static_cast<int>(std::count_if(
    std::begin(kAllLevels), std::end(kAllLevels), [](const Level& level) { return built(level.architecture); }));

constexpr auto kLevels = [] {
  std::array<Isa, kBuiltCount> levels{};
  size_t count = 0;
  for (const Level& level : kAllLevels)
    if (built(level.architecture)) levels[count++] = level.isa;
  return levels;
}();

std::string names(std::span<const Isa> levels) {
  std::string text;
  for (const Isa level : levels) text += (text.empty() ? "" : ", ") + std::string(isa_name(level));
  return text;
}

std::string supported_names() {
  std::string text;
  for (const Isa level : kLevels)
    if (supported(level)) text += (text.empty() ? "" : ", ") + std::string(isa_name(level));
  return text;
}

bool built(Isa level) noexcept {
  return built(level_of(level).architecture);
}

// The features of `level` of which that is true.
std::string feature_names(Isa level, Presence wanted) {
  std::string text;
  for (const Feature& f : kFeatures) {
    if ((needs(level) & f.mask) != 0 && presence(f) == wanted) text += (text.empty() ? "" : ", ") + std::string(f.name);
  }
  return text;
}

}  // namespace

const char* isa_name(Isa isa) noexcept {
  return level_of(isa).name;
}

std::span<const Isa> every_isa() noexcept {
  return kEvery;
}

Isa isa_of_model(Isa isa) noexcept {
  return level_of(isa).model;
}

std::span<const Isa> isa_levels() noexcept {
  return kLevels;
}

bool includes(Isa level, Isa isa) noexcept {
  while (level != isa && level != Isa::scalar) level = level_of(level).base;
  return level == isa;
}

bool supported(Isa level) noexcept {
  const auto found = [&](const Feature& f) { return (needs(level) & f.mask) == 0 || presence(f) == Presence::found; };
  return built(level) && std::ranges::all_of(kFeatures, found) && refusal(level) == 0;
}

std::string why_unsupported(Isa level) {
  if (!built(level)) return std::string("it belongs to another architecture: this is ") + kArchitecture;
  const std::string lacking = feature_names(level, Presence::cpu_lacks_it);
  if (!lacking.empty()) return "the CPU lacks " + lacking;
  const std::string unsaved = feature_names(level, Presence::state_not_saved);
  if (!unsaved.empty()) return "the operating system does not save the registers of " + unsaved;
  if (const int error = refusal(level)) {
    return std::string("the operating system refuses its registers to this process: ") + std::strerror(error);
  }
  return "";
}

Isa detect_isa() noexcept {
  Isa best = Isa::scalar;
  for (const Isa level : kLevels)
    if (supported(level)) best = level;
  return best;
}

Isa parse_isa(const std::string& name) {
  const auto named = [&](const Level& level) { return name == level.name; };
  const Level* found = std::ranges::find_if(kAllLevels, named);
  if (found == std::end(kAllLevels)) {
    throw std::invalid_argument("unknown instruction set level '" + name + "'; the levels are " + names(kLevels));
  }
  if (!built(found->isa)) {
    throw std::invalid_argument("level " + name + " belongs to another architecture: this is " + kArchitecture +
                                ", whose levels are " + names(kLevels));
  }
  if (!supported(found->isa)) {
    throw std::invalid_argument("this machine has no level " + name + ": " + why_unsupported(found->isa) +
                                "; its levels are " + supported_names());
  }
  return found->isa;
}

Isa selected_isa() {
  const char* wanted = std::getenv("QFX_ISA");
  if (wanted == nullptr || *wanted == '\0') return detect_isa();
  try {
    return parse_isa(wanted);
  } catch (const std::invalid_argument& error) {
    throw std::invalid_argument("QFX_ISA=" + std::string(wanted) + ": " + error.what());
  }
}

std::string cpu_description() {
#if defined(__x86_64__)
  std::string text = vendor() + ", " + brand() + ":";
#else
  std::string text = std::string(kArchitecture) + ":";
#endif
  for (const Feature& f : kFeatures)
    if (presence(f) == Presence::found) text += std::string(" ") + f.name;
  return text;
}

}  // namespace qfx
