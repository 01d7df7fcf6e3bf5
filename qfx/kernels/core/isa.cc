#include "core/isa.h"

#include <algorithm>
#include <cerrno>
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

struct Level {
  Isa isa;
  const char* name;
  Isa base;  // the level it extends; scalar extends itself
};

constexpr Level kAllLevels[] = {
    {Isa::scalar, "scalar", Isa::scalar}, {Isa::avx2, "avx2", Isa::scalar},
    {Isa::avxvnni, "avxvnni", Isa::avx2}, {Isa::avx512vnni, "avx512vnni", Isa::avx2},
    {Isa::amx, "amx", Isa::avx512vnni},   {Isa::neon, "neon", Isa::scalar},
    {Isa::dotprod, "dotprod", Isa::neon}, {Isa::i8mm, "i8mm", Isa::dotprod},
};

constexpr const Level& level_of(Isa isa) noexcept {
  return kAllLevels[static_cast<int>(isa)];
}

enum class Presence { found, cpu_lacks_it, state_not_saved };

#if defined(__x86_64__)

constexpr const char* kArchitecture = "x86-64";
constexpr Isa kLevels[] = {Isa::scalar, Isa::avx2, Isa::avxvnni, Isa::avx512vnni, Isa::amx};

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
  unsigned leaf, subleaf;
  Register reg;
  int bit;
  unsigned states;  // XCR0 bits it is useless without
  Isa level;        // that requires it, as do those that extend it
};

constexpr Feature kFeatures[] = {
    {"fma", 1, 0, ecx, 12, kYmmStates, Isa::avx2},
    {"f16c", 1, 0, ecx, 29, kYmmStates, Isa::avx2},
    {"avx", 1, 0, ecx, 28, kYmmStates, Isa::avx2},
    {"bmi1", 7, 0, ebx, 3, 0, Isa::avx2},
    {"avx2", 7, 0, ebx, 5, kYmmStates, Isa::avx2},
    {"bmi2", 7, 0, ebx, 8, 0, Isa::avx2},
    {"avx512f", 7, 0, ebx, 16, kZmmStates, Isa::avx512vnni},
    {"avx512dq", 7, 0, ebx, 17, kZmmStates, Isa::avx512vnni},
    {"avx512bw", 7, 0, ebx, 30, kZmmStates, Isa::avx512vnni},
    {"avx512vl", 7, 0, ebx, 31, kZmmStates, Isa::avx512vnni},
    {"avx512_vnni", 7, 0, ecx, 11, kZmmStates, Isa::avx512vnni},
    {"avx_vnni", 7, 1, eax, 4, kYmmStates, Isa::avxvnni},
    {"amx_tile", 7, 0, edx, 24, kTileStates, Isa::amx},
    {"amx_int8", 7, 0, edx, 25, kTileStates, Isa::amx},
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
  if (!includes(level, Isa::amx)) return 0;
  static const int error = syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0 ? 0 : errno;
  return error;
#else
  return 0;
#endif
}

std::string vendor() {
  const Registers r = cpuid(0);
  const unsigned words[] = {r.ebx, r.edx, r.ecx};
  return std::string(reinterpret_cast<const char*>(words), sizeof words);
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

constexpr const char* kArchitecture = "AArch64";
constexpr Isa kLevels[] = {Isa::scalar, Isa::neon, Isa::dotprod, Isa::i8mm};

struct Feature {
  const char* name;
  unsigned long type, bit;  // of getauxval
  Isa level;                // that requires it, as do those that extend it
};

constexpr Feature kFeatures[] = {
    {"asimd", 16, 1ul << 1, Isa::neon},        // AT_HWCAP, HWCAP_ASIMD
    {"asimddp", 16, 1ul << 20, Isa::dotprod},  // AT_HWCAP, HWCAP_ASIMDDP
    {"i8mm", 26, 1ul << 13, Isa::i8mm},        // AT_HWCAP2, HWCAP2_I8MM
};

Presence presence(const Feature& f) noexcept {
#if defined(__linux__)
  const bool found = (getauxval(f.type) & f.bit) != 0;
#else
  const bool found = f.level == Isa::neon;  // every AArch64 CPU has it
#endif
  return found ? Presence::found : Presence::cpu_lacks_it;
}

int refusal(Isa) noexcept {
  return 0;
}

#else

constexpr const char* kArchitecture = "an architecture with portable kernels only";
constexpr Isa kLevels[] = {Isa::scalar};

struct Feature {
  const char* name;
  Isa level;
};

constexpr std::span<const Feature> kFeatures;

Presence presence(const Feature&) noexcept {
  return Presence::cpu_lacks_it;
}

int refusal(Isa) noexcept {
  return 0;
}

#endif

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
  return std::find(std::begin(kLevels), std::end(kLevels), level) != std::end(kLevels);
}

// The features of `level` of which that is true.
std::string feature_names(Isa level, Presence wanted) {
  std::string text;
  for (const Feature& f : kFeatures) {
    if (includes(level, f.level) && presence(f) == wanted) text += (text.empty() ? "" : ", ") + std::string(f.name);
  }
  return text;
}

}  // namespace

const char* isa_name(Isa isa) noexcept {
  return level_of(isa).name;
}

std::span<const Isa> isa_levels() noexcept {
  return kLevels;
}

bool includes(Isa level, Isa isa) noexcept {
  while (level != isa && level != Isa::scalar) level = level_of(level).base;
  return level == isa;
}

bool supported(Isa level) noexcept {
  const auto found = [&](const Feature& f) { return !includes(level, f.level) || presence(f) == Presence::found; };
  return built(level) && std::all_of(std::begin(kFeatures), std::end(kFeatures), found) && refusal(level) == 0;
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
  const Level* found = std::find_if(std::begin(kAllLevels), std::end(kAllLevels), named);
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
