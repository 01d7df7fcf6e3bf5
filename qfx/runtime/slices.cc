#include "runtime/slices.h"

#include <algorithm>
#include <stdexcept>

#include "runtime/frontier.h"
#include "runtime/shapes.h"

namespace qfx {
namespace {

// What a core keeps close: half of a usual L2 cache.
constexpr int64_t kCloseBytes = 512 * 1024;
// A byte of weights, which every slice reads, costs this much less than one of activations where it is multiplied by so
// many rows that it comes while they are; else twice as much. Measured on BERT-base and MiniLM, batch 8, at 16 to 128
// rows a slice, on a Zen 4: time over bytes of both.
constexpr int64_t kWeightDiscount = 4;
constexpr int64_t kManyRows = 192;
constexpr int64_t kFewRowsCost = 2;
// Below this much traffic saved, slices are not worth a second walk over the steps.
constexpr int64_t kLeastSaved = 1 << 20;

// The batch that all inputs share; 1 where they do not.
int64_t common_batch(std::span<const InputLayout> inputs) {
  int64_t batch = 0;
  for (const InputLayout& input : inputs) {
    if (input.shape.empty()) return 1;
    if (batch != 0 && input.shape[0] != batch) return 1;
    batch = input.shape[0];
  }
  return std::max<int64_t>(batch, 1);
}

// The shapes of the values for batches of two sizes, as far as each value is the batch's, image after image in both, or
// the same for all images.
class Prefix {
 public:
  Prefix(const LoadedProgram& loaded, std::span<const InputLayout> inputs, int64_t batch)
      : loaded_(loaded), batch_(batch), whole_(constant_shapes(*loaded.program)), one_(whole_) {
    for (const Value& value : loaded.program->values()) same_.push_back(value.constant >= 0);
    numbers_.resize(same_.size());
    const auto& ids = loaded.program->inputs();
    for (size_t i = 0; i < ids.size(); ++i) {
      whole_[ids[i]] = inputs[i].shape;
      one_[ids[i]] = first_images(inputs[i], 1).shape;
    }
  }

  const ValueShapes& one() const noexcept { return one_; }
  bool has_images(int value) const { return !is_same(value) && !is_number(value); }
  bool is_same(int value) const { return same_[static_cast<size_t>(value)] != 0; }

  // Takes step `s` in if it treats every image alone, or none at all.
  bool extend(int s) {
    const Step& step = loaded_.program->steps()[s];
    StepShapes whole, one;
    try {
      whole = step_shapes(loaded_, s, whole_);
      one = step_shapes(loaded_, s, one_);
      infer(s, whole, whole_);
      infer(s, one, one_);
    } catch (const std::invalid_argument&) {
      return false;  // shapes that name the batch
    }
    if (is_same_step(step, whole, one)) {
      for (const int v : step.outputs) same_[static_cast<size_t>(v)] = 1;
      return true;
    }
    const StepKernel& kernel = *loaded_.kernels[s];
    if (!loaded_.rows[s]->per_image || kernel.mixes_images(whole) || !is_batch(step.output())) return false;
    if (kernel.counts_images()) return count(step);
    if (!has_same_places(step, whole, one)) return false;
    if (kernel.picks_images()) return picks(step);
    if (is_number(step.inputs[0]) && step.exprs.contains("shape")) return count(step);
    return std::ranges::all_of(step.inputs, [&](int v) { return fits(step, v) && !is_number(v); });
  }

 private:
  void infer(int s, const StepShapes& in, ValueShapes& shapes) const {
    const std::vector<int>& outputs = loaded_.program->steps()[s].outputs;
    std::vector<Dims> inferred = loaded_.kernels[s]->shapes(in);
    for (size_t i = 0; i < outputs.size(); ++i) {
      element_count(inferred[i]);
      shapes[outputs[i]] = std::move(inferred[i]);
    }
  }

  // Whether a step computes the same for any batch.
  bool is_same_step(const Step& step, const StepShapes& whole, const StepShapes& one) const {
    const auto alike = [&](int v) { return whole_[v] == one_[v]; };
    return std::ranges::all_of(step.inputs, [&](int v) { return is_same(v); }) &&
           std::ranges::all_of(step.outputs, alike) && whole.exprs == one.exprs;
  }

  // What counts the images may be in a slice of them, where it counts those of the slice, if only a step that picks
  // images reads it.
  bool count(const Step& step) {
    const bool one_each = one_[step.output()][0] == 1 && element_count(one_[step.output()]) == 1;
    numbers_[static_cast<size_t>(step.output())] = one_each ? 1 : 0;
    return one_each;
  }
  bool is_number(int value) const { return numbers_[static_cast<size_t>(value)] != 0; }

  // Whether a step takes of each image what the numbers of the images and other indices, the same for all, say.
  bool picks(const Step& step) const {
    const int x = step.inputs[0], images = step.inputs[1];
    const size_t rank = whole_[images].size();
    if (!is_batch(x) || is_number(x) || one_[x][0] != 1 || !is_number(images)) return false;
    return std::all_of(step.inputs.begin() + 2, step.inputs.end(), [&](int v) {
      const bool alike = is_same(v) && (whole_[v].size() < rank || (whole_[v].size() == rank && whole_[v][0] == 1));
      return alike || (is_batch(v) && !is_number(v) && whole_[v].size() == rank);
    });
  }

  // Where a step takes elements from must not depend on the size of the batch; what shape it gives them may.
  static bool has_same_places(const Step& step, const StepShapes& whole, const StepShapes& one) {
    return step.exprs.contains("shape") || whole.exprs == one.exprs;
  }

  // An operand of the batch has it where the result has it: dims are broadcast from the last one. One that is the same
  // for all images has no images.
  bool fits(const Step& step, int v) const {
    const size_t rank = whole_[step.output()].size();
    if (is_same(v)) return whole_[v].size() < rank || whole_[v].empty() || whole_[v][0] == 1;
    return is_batch(v) && (step.inputs.size() == 1 || whole_[v].size() == rank);
  }

  // Whether a value has the same number of entries along its first dim for each image.
  bool is_batch(int v) const {
    const Dims &whole = whole_[v], &one = one_[v];
    if (whole.empty() || loaded_.program->values()[v].shape[0] >= 0 || element_count(whole) == 0) return false;
    return whole[0] == one[0] * batch_ && std::equal(whole.begin() + 1, whole.end(), one.begin() + 1, one.end());
  }

  const LoadedProgram& loaded_;
  int64_t batch_;
  ValueShapes whole_, one_;
  std::vector<char> same_;     // one a value: constants, and what is computed of nothing else
  std::vector<char> numbers_;  // one a value: the numbers of the images
};

// The most images, as a divisor of the batch, whose values at one step stay close.
int64_t images_for(int64_t batch, int64_t bytes_of_one) {
  int64_t images = std::clamp<int64_t>(kCloseBytes / std::max<int64_t>(bytes_of_one, 1), 1, batch);
  while (batch % images != 0) --images;
  return images;
}

// What it costs a slice of so many images to read the weights of a step again. y: its result for one image.
int64_t weights_cost(size_t packed_bytes, const Dims& y, int64_t images) {
  const auto bytes = static_cast<int64_t>(packed_bytes);
  if (bytes == 0) return 0;
  const int64_t rows = images * (y.empty() ? 1 : element_count({y.data(), y.size() - 1}));
  return rows < kManyRows ? bytes * kFewRowsCost : bytes / kWeightDiscount;
}

}  // namespace

InputLayout first_images(const InputLayout& input, int64_t images) {
  InputLayout slice = input;
  slice.shape[0] = images;
  canonicalize_strides(slice.shape, slice.strides);
  return slice;
}

// A step in slices does not move its operands and its result through the outer caches, but reads its weights again for
// every slice. The cut is where the sum of both is best.
std::optional<SliceChoice> choose_slices(const LoadedProgram& loaded, std::span<const InputLayout> inputs) {
  const int64_t batch = common_batch(inputs);
  if (batch < 2) return std::nullopt;
  const Program& program = *loaded.program;
  const Frontier frontier(program);
  Prefix prefix(loaded, inputs, batch);
  std::optional<SliceChoice> best;
  int64_t saved = 0, best_saved = kLeastSaved, widest = 0;
  for (int s = 0; s < static_cast<int>(program.steps().size()) && prefix.extend(s); ++s) {
    const Step& step = program.steps()[s];
    int64_t moved = 0;
    for (const auto* ids : {&step.inputs, &step.outputs}) {
      for (const int v : *ids) moved += program.values()[v].constant < 0 ? bytes_of(program, v, prefix.one()) : 0;
    }
    widest = std::max(widest, moved);
    const int64_t images = images_for(batch, widest), again = batch / images - 1;
    saved -= weights_cost(loaded.kernels[s]->packed_bytes(), prefix.one()[step.output()], images) * again;
    if (prefix.is_same(step.output())) {
      saved -= moved * again;
      continue;
    }
    saved += moved * batch > kCloseBytes ? moved * batch : 0;
    const int value = frontier.single(s);
    if (saved <= best_saved || value < 0 || !prefix.has_images(value) || images == batch) continue;
    best_saved = saved;
    best = SliceChoice{s + 1, value, images, batch / images};
  }
  return best;
}

}  // namespace qfx
