#pragma once
#include <algorithm>
#include <cstddef>
#include <vector>

#include "runtime/program.h"

namespace qfx {

// Who reads the values that some steps of a program write or read.
class Readers {
 public:
  struct Use {
    int step;
    size_t operand;
  };

  // Steps from `first` to before `last`; `outputs` are read after them.
  Readers(const Program& program, size_t first, size_t last, const std::vector<int>& outputs)
      : uses_(program.values().size()), leaves_(program.values().size(), 0) {
    for (size_t s = first; s < last; ++s) {
      const std::vector<int>& inputs = program.steps()[s].inputs;
      for (size_t i = 0; i < inputs.size(); ++i) uses_[inputs[i]].push_back({static_cast<int>(s), i});
    }
    for (const int v : outputs) leaves_[v] = 1;
  }

  const std::vector<Use>& of(int value) const { return uses_[value]; }
  bool leaves(int value) const { return leaves_[value] != 0; }

  template <class Predicate>
  bool all(int value, const Predicate& predicate) const {
    return std::all_of(uses_[value].begin(), uses_[value].end(),
                       [&](const Use& use) { return predicate(use.step, use.operand); });
  }

 private:
  std::vector<std::vector<Use>> uses_;
  std::vector<char> leaves_;
};

}  // namespace qfx
