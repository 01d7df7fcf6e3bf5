#include "runtime/serving/cost.h"

#include <algorithm>
#include <cstddef>
#include <initializer_list>
#include <stdexcept>

#include "runtime/frame.h"
#include "runtime/inference.h"
#include "runtime/planner.h"
#include "runtime/shapes.h"

namespace qfx {
namespace {

constexpr size_t kNever = SIZE_MAX;

uint64_t total(std::initializer_list<uint64_t> numbers) {
  return sum_of(std::span(numbers.begin(), numbers.size()));
}

uint64_t constant_bytes(const Program& program) {
  uint64_t bytes = 0;
  for (const Constant& c : program.constants()) bytes += static_cast<uint64_t>(byte_size(c.shape, c.dtype));
  return bytes;
}

// The step after which each value is not read any more; inputs live on.
std::vector<size_t> last_steps(const Program& program) {
  std::vector<size_t> last(program.values().size(), 0);
  for (size_t s = 0; s < program.steps().size(); ++s) {
    for (const int v : program.steps()[s].outputs) last[v] = s;
    for (const int v : program.steps()[s].inputs) last[v] = s;
  }
  for (const int v : program.inputs()) last[v] = kNever;
  return last;
}

// What lives while steps run in their order; constants and outputs are counted apart.
class Living {
 public:
  Living(const Program& program, const ShapeInference& shapes)
      : last_(last_steps(program)), apart_(program.values().size(), 0), shapes_(shapes) {
    for (size_t v = 0; v < apart_.size(); ++v) apart_[v] = program.values()[v].constant >= 0;
    for (const int v : program.outputs()) apart_[v] = 1;
  }

  void add(int value) {
    if (apart_[value]) return;
    bytes_ = total({bytes_, bytes_of(value)});
    most_ = std::max(most_, bytes_);
  }
  // After step `s`: those of its operands and results that are not read again.
  void end(size_t s, const Step& step) {
    std::vector<int> ended;
    for (const auto* values : {&step.inputs, &step.outputs}) {
      for (const int v : *values) {
        if (last_[v] == s && !apart_[v] && std::ranges::find(ended, v) == ended.end()) ended.push_back(v);
      }
    }
    if (bytes_ == UINT64_MAX) return;
    for (const int v : ended) bytes_ -= bytes_of(v);
  }
  uint64_t most() const noexcept { return most_; }

 private:
  uint64_t bytes_of(int value) const { return static_cast<uint64_t>(shapes_.bytes(value)); }

  std::vector<size_t> last_;
  std::vector<char> apart_;
  const ShapeInference& shapes_;
  uint64_t bytes_ = 0, most_ = 0;
};

}  // namespace

uint64_t sum_of(std::span<const uint64_t> numbers) noexcept {
  uint64_t sum = 0;
  for (const uint64_t n : numbers) {
    if (__builtin_add_overflow(sum, n, &sum)) return UINT64_MAX;
  }
  return sum;
}

uint64_t value_memory(const LoadedProgram& loaded, const std::vector<InputLayout>& inputs) {
  const Program& program = *loaded.program;
  ShapeInference shapes(loaded, inputs);
  Living living(program, shapes);
  for (const int v : program.inputs()) living.add(v);
  for (size_t s = 0; s < program.steps().size(); ++s) {
    const Step& step = program.steps()[s];
    try {
      (void)shapes.infer(s);
    } catch (const std::invalid_argument& error) {
      fail_step(step, error);
    }
    for (const int v : step.outputs) living.add(v);
    living.end(s, step);
  }
  uint64_t bytes = total({constant_bytes(program), living.most()});
  for (const int v : program.outputs()) bytes = total({bytes, static_cast<uint64_t>(shapes.bytes(v))});
  return bytes;
}

uint64_t products_of(const Plan& plan) {
  uint64_t products = 0;
  for (const PlannedWork& w : plan.works) products = total({products, static_cast<uint64_t>(w.work->products())});
  if (plan.slices == nullptr) return products;
  std::vector<uint64_t> each;
  for (const auto& slice : plan.slices->plans) each.push_back(products_of(*slice));
  for (const Slice& slice : plan.slices->parts) products = total({products, each[slice.plan]});
  return products;
}

Cost cost_of(const std::shared_ptr<const LoadedProgram>& loaded, const std::vector<InputLayout>& inputs) {
  const uint64_t memory = value_memory(*loaded, inputs);
  return {memory, products_of(make_plan(loaded, inputs, {.slices = false, .bands = false}))};
}

uint64_t memory_of(const Plan& plan, int threads) {
  const Program& program = *plan.loaded->program;
  uint64_t bytes = total({plan.loaded->packed_bytes, plan.loaded->constant_bytes, frame_bytes(plan, threads)});
  for (size_t i = 0; i < plan.inputs.size(); ++i) {
    const DType dtype = program.values()[program.inputs()[i]].dtype;
    bytes = total({bytes, static_cast<uint64_t>(byte_size(plan.inputs[i].shape, dtype))});
  }
  for (size_t i = 0; i < plan.output_shapes.size(); ++i) {
    const DType dtype = program.values()[program.outputs()[i]].dtype;
    bytes = total({bytes, static_cast<uint64_t>(byte_size(plan.output_shapes[i], dtype))});
  }
  return bytes;
}

}  // namespace qfx
