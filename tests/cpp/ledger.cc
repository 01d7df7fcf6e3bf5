#include "ledger.h"

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <set>
#include <string_view>

#include "harness.h"
#include "kernel_models.h"

namespace qfx::test {
namespace {

struct Line {
  const char* name;
  Isa isa;
};

#define QFX_EVERY_ARCHITECTURE
#define QFX_KERNEL(kind, name, isa) {#name, Isa::isa},
#define QFX_GEMM(name, isa, rows, columns, depth, bytes) {#name, Isa::isa},
#define QFX_GEMM_IN_ORDER(name, isa, stored) {#name, Isa::isa},
#define QFX_CONV_DEPTHWISE(name, isa, pixels, channels) {#name, Isa::isa},
#define QFX_CONV_SLIDE(name, isa, window, channels) {#name, Isa::isa},
#define QFX_CONV_AFFINE(name, isa, channels) {#name, Isa::isa},
constexpr Line kLines[] = {
#include "attention/kernels.inc"
#include "conv/kernels.inc"
#include "elementwise/kernels.inc"
#include "fake_quant/kernels.inc"
#include "float_ops/kernels.inc"
#include "gemm/kernels.inc"
#include "index/kernels.inc"
#include "move/kernels.inc"
#include "pool/kernels.inc"
#include "recurrent/kernels.inc"
#include "rotary/kernels.inc"
#include "rotation/kernels.inc"
};
#undef QFX_KERNEL
#undef QFX_EVERY_ARCHITECTURE

// The names of the kernels of every Work that ran.
std::set<std::string, std::less<>>& names() {
  static std::set<std::string, std::less<>> seen;
  return seen;
}

std::string tested_on() {
  const char* place = std::getenv("QFX_TESTED_ON");
  return place == nullptr || *place == '\0' ? "hardware" : place;
}

}  // namespace

void note_run(const Work& work) {
  if (work.cost() == 0) return;  // nothing to compute
  for (const char* name : work.kernels()) note_kernel(name);
}

void note_kernel(const char* name) {
  const bool listed =
      std::ranges::any_of(kLines, [&](const Line& line) { return std::string_view(line.name) == name; });
  if (!listed) throw Failure(std::string("no kernels.inc has ") + name);
  names().emplace(name);
}

std::vector<LedgerLine> ledger() {
  const std::string place = tested_on();
  const std::vector<std::string> models = model_kernels();
  std::vector<LedgerLine> lines;
  for (const Line& line : kLines) {
    const bool model = std::find(models.begin(), models.end(), line.name) != models.end();
    const bool ran = names().count(line.name) > 0;
    lines.push_back({line.name, line.isa, !ran ? "nowhere" : model ? "model" : place});
  }
  return lines;
}

void print(std::FILE* to, const std::vector<LedgerLine>& lines) {
  for (const LedgerLine& line : lines)
    std::fprintf(to, "%s\t%s\t%s\n", line.name.c_str(), isa_name(line.isa), line.where.c_str());
}

std::vector<std::string> untested(const std::vector<LedgerLine>& lines) {
  std::vector<std::string> names;
  for (const LedgerLine& line : lines)
    if (supported(line.isa) && line.where == "nowhere") names.push_back(line.name);
  return names;
}

}  // namespace qfx::test
