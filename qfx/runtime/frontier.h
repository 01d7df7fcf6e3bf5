#pragma once
#include <vector>

#include "runtime/dtype.h"
#include "runtime/program.h"
#include "runtime/shapes.h"

namespace qfx {

using ValueShapes = std::vector<Dims>;  // one a value of a program

// The shapes of the values that hold constants; the others' are empty.
inline ValueShapes constant_shapes(const Program& program) {
  ValueShapes shapes;
  for (const Value& value : program.values()) shapes.push_back(value.constant >= 0 ? value.shape : Dims());
  return shapes;
}

inline int64_t bytes_of(const Program& program, int value, const ValueShapes& shapes) {
  return byte_size(shapes[value], program.values()[value].dtype);
}

// After each step, the values that are there and still needed; program inputs and constants always are.
class Frontier {
 public:
  explicit Frontier(const Program& program) : program_(program), last_(program.values().size(), -1) {
    const int end = static_cast<int>(program.steps().size());
    for (int s = 0; s < end; ++s) {
      for (const int v : program.steps()[s].inputs) last_[v] = s;
    }
    for (const int v : program.outputs()) last_[v] = end;
  }

  // The one value that steps after `s` read of what the steps up to it wrote; -1 where there are more or none.
  int single(int s) const {
    int found = -1;
    for (int i = 0; i <= s; ++i) {
      for (const int v : program_.steps()[i].outputs) {
        if (last_[v] <= s) continue;
        if (found >= 0) return -1;
        found = v;
      }
    }
    return found;
  }

 private:
  const Program& program_;
  std::vector<int> last_;  // the last step that reads a value
};

}  // namespace qfx
