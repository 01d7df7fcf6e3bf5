#include "runtime/loaded.h"

#include <stdexcept>
#include <utility>

#include "runtime/errors.h"
#include "runtime/shapes.h"

namespace qfx {
namespace {

// Whether constants are read once the program is loaded: operands, what states begin as, and what kernels have no copy
// of.
std::vector<char> read_later(const Program& program) {
  std::vector<char> read(program.constants().size(), 0);
  for (const Value& value : program.values()) {
    if (value.constant >= 0) read[value.constant] = 1;
  }
  for (const State& state : program.states()) {
    if (state.initial >= 0) read[state.initial] = 1;
  }
  for (const Step& step : program.steps()) {
    if (find_op(step.op)->copies_constants) continue;
    for (const auto& [name, id] : step.constants) read[id] = 1;
  }
  return read;
}

// Of what a step packs, about as many bytes as its weights take.
uint64_t weight_bytes(const Program& program, const Step& step) {
  uint64_t bytes = 0;
  for (const auto& [name, id] : step.constants) bytes += program.constants()[id].data.size();
  return bytes;
}

void require_at_most(uint64_t most_bytes, uint64_t bytes, const Step& step) {
  if (bytes <= most_bytes) return;
  throw LimitError(step.name, "The weights up to step '" + step.name + "' take " + std::to_string(bytes) +
                                  " bytes of memory, and the limit is " + std::to_string(most_bytes) + ".");
}

// Packing on this thread meanwhile.
class PackingScope {
 public:
  explicit PackingScope(PackingStore* store) noexcept : before_(packing_store()) { packing_store() = store; }
  ~PackingScope() { packing_store() = before_; }
  PackingScope(const PackingScope&) = delete;
  PackingScope& operator=(const PackingScope&) = delete;

 private:
  PackingStore* before_;
};

std::shared_ptr<const Program> released(const std::shared_ptr<const Program>& given, Release release) {
  if (release == Release::nothing) return given;
  return std::make_shared<const Program>(*given, read_later(*given), release == Release::copying);
}

}  // namespace

LoadedProgram::LoadedProgram(const std::shared_ptr<const Program>& given, Isa chosen, Release release,
                             PackingStore* packed, uint64_t most_bytes)
    : program(released(given, release)), isa(chosen) {
  const PackingScope scope(packed);
  for (const Constant& c : program->constants()) constant_bytes += c.data.size();
  for (const Step& step : program->steps()) {
    require_at_most(most_bytes, constant_bytes + packed_bytes + weight_bytes(*given, step), step);
    rows.push_back(find_op(step.op));
    try {
      kernels.push_back(rows.back()->load(StepView(rows.back()->copies_constants ? *given : *program, step), isa));
    } catch (const std::invalid_argument& error) {
      throw ProgramError(step.name, error.what());
    }
    packed_bytes += kernels.back()->packed_bytes();
    require_at_most(most_bytes, constant_bytes + packed_bytes, step);
  }
}

StepShapes step_shapes(const LoadedProgram& loaded, size_t s, const std::vector<Dims>& values) {
  const Step& step = loaded.program->steps()[s];
  StepShapes in;
  in.inputs.reserve(step.inputs.size());
  for (const int v : step.inputs) {
    in.inputs.push_back(values[v]);
    if (loaded.rows[s]->strided_input) in.strides.push_back(dense_strides(values[v]));
  }
  for (const auto& [name, ids] : step.exprs) {
    Dims& evaluated = in.exprs[name];
    evaluated.reserve(ids.size());
    for (const int e : ids) evaluated.push_back(evaluate(loaded.program->exprs(), e, values));
  }
  return in;
}

}  // namespace qfx
