#include "core/isa.h"

#include <cstdlib>
#include <cstring>
#include <stdexcept>

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#define QFX_X86 1
#endif

namespace qfx {
namespace {

constexpr Isa kLevels[] = {Isa::scalar, Isa::avx2, Isa::avx512vnni};

#ifdef QFX_X86

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

enum Register { eax, ebx, ecx, edx };

struct Feature {
  const char* name;
  unsigned leaf, subleaf;
  Register reg;
  int bit;
  unsigned states;  // XCR0 bits it is useless without
  Isa level;        // the lowest level that requires it
  bool required;    // false: reported only
};

constexpr Feature kFeatures[] = {
    {"fma", 1, 0, ecx, 12, kYmmStates, Isa::avx2, true},
    {"f16c", 1, 0, ecx, 29, kYmmStates, Isa::avx2, true},
    {"avx", 1, 0, ecx, 28, kYmmStates, Isa::avx2, true},
    {"bmi1", 7, 0, ebx, 3, 0, Isa::avx2, true},
    {"avx2", 7, 0, ebx, 5, kYmmStates, Isa::avx2, true},
    {"bmi2", 7, 0, ebx, 8, 0, Isa::avx2, true},
    {"avx512f", 7, 0, ebx, 16, kZmmStates, Isa::avx512vnni, true},
    {"avx512dq", 7, 0, ebx, 17, kZmmStates, Isa::avx512vnni, true},
    {"avx512bw", 7, 0, ebx, 30, kZmmStates, Isa::avx512vnni, true},
    {"avx512vl", 7, 0, ebx, 31, kZmmStates, Isa::avx512vnni, true},
    {"avx512_vnni", 7, 0, ecx, 11, kZmmStates, Isa::avx512vnni, true},
    {"avx_vnni", 7, 1, eax, 4, kYmmStates, Isa::avx2, false},
    {"amx_tile", 7, 0, edx, 24, 0x60000, Isa::avx512vnni, false},
    {"amx_int8", 7, 0, edx, 25, 0x60000, Isa::avx512vnni, false},
};

bool present(const Feature& f) noexcept {
  if ((saved_states() & f.states) != f.states) return false;
  const Registers r = cpuid(f.leaf, f.subleaf);
  const unsigned words[] = {r.eax, r.ebx, r.ecx, r.edx};
  return (words[f.reg] >> f.bit & 1u) != 0;
}

bool supported(Isa level) noexcept {
  for (const Feature& f : kFeatures)
    if (f.required && f.level <= level && !present(f)) return false;
  return true;
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

#endif

}  // namespace

const char* isa_name(Isa isa) noexcept {
  switch (isa) {
    case Isa::scalar:
      return "scalar";
    case Isa::avx2:
      return "avx2";
    case Isa::avx512vnni:
      return "avx512vnni";
  }
  return "unknown";
}

Isa detect_isa() noexcept {
  Isa best = Isa::scalar;
#ifdef QFX_X86
  for (Isa level : kLevels)
    if (supported(level)) best = level;
#endif
  return best;
}

Isa selected_isa() {
  const Isa detected = detect_isa();
  const char* wanted = std::getenv("QFX_ISA");
  if (wanted == nullptr || *wanted == '\0') return detected;
  for (Isa level : kLevels) {
    if (std::strcmp(wanted, isa_name(level)) != 0) continue;
    if (level > detected)
      throw std::invalid_argument(std::string("QFX_ISA=") + wanted + ": this CPU supports no more than " +
                                  isa_name(detected) + "; unset QFX_ISA or name a lower level");
    return level;
  }
  std::string known;
  for (Isa level : kLevels) known += (known.empty() ? "" : ", ") + std::string(isa_name(level));
  throw std::invalid_argument(std::string("QFX_ISA=") + wanted + ": unknown level; the levels are " + known);
}

std::string cpu_description() {
#ifdef QFX_X86
  std::string text = vendor() + ", " + brand() + ":";
  for (const Feature& f : kFeatures)
    if (present(f)) text += std::string(" ") + f.name;
  return text;
#else
  return "not an x86 CPU: portable kernels only";
#endif
}

}  // namespace qfx
