#pragma once
#include <cstdio>
#include <string>
#include <vector>

#include "core/isa.h"
#include "core/work.h"

// Which kernel ran on what. A kernel counts as run once a test has run a Work that has it.
namespace qfx::test {

struct LedgerLine {
  std::string name;
  Isa isa;
  std::string where;  // "hardware", "emulator", "model" or "nowhere"
};

// Notes the kernels of `work`; throws Failure for one that no kernels.inc has.
void note_run(const Work& work);

// Notes a kernel that ran in no Work.
void note_kernel(const char* name);

// One line for each line of every kernels.inc, those of other architectures included. A kernel that ran did so as a
// model where model_kernels() has it; else on what QFX_TESTED_ON names, by default the hardware.
std::vector<LedgerLine> ledger();

// Tab-separated: name, level, where.
void print(std::FILE* to, const std::vector<LedgerLine>& lines);

// The kernels that this machine has and that ran nowhere.
std::vector<std::string> untested(const std::vector<LedgerLine>& lines);

}  // namespace qfx::test
