#include "runtime/slices.h"

#include <algorithm>
#include <stdexcept>

#include "runtime/frontier.h"
#include "runtime/shapes.h"

namespace qfx {
namespace {

// What a core keeps close: half of a usual L2 cache.
constexpr int64_t kCloseBytes = 512 * 1024;
// A byte of weights costs this much less than one of activations: it is read in order, by every slice.
constexpr int64_t kWeightDiscount = 4;
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

bool starts_with(const Dims& shape, int64_t batch) {
  return !shape.empty() && shape[0] == batch;
}

// A constant says the same about every image.
bool is_same_for_images(const Value& value, const Dims& result) {
  return value.constant >= 0 && (value.shape.size() < result.size() || value.shape.empty() || value.shape[0] == 1);
}

// The shapes of the values for batches of two sizes, as far as every value's first dim is the batch in both.
class Prefix {
 public:
  Prefix(const LoadedProgram& loaded, std::span<const InputLayout> inputs, int64_t batch)
      : loaded_(loaded), batch_(batch), whole_(constant_shapes(*loaded.program)), one_(whole_) {
    const auto& ids = loaded.program->inputs();
    for (size_t i = 0; i < ids.size(); ++i) {
      whole_[ids[i]] = inputs[i].shape;
      one_[ids[i]] = first_images(inputs[i], 1).shape;
    }
  }

  const ValueShapes& whole() const noexcept { return whole_; }
  const ValueShapes& one() const noexcept { return one_; }

  // Takes step `s` in if it treats every image alone.
  bool extend(int s) {
    const Step& step = loaded_.program->steps()[s];
    if (!loaded_.rows[s]->per_image || loaded_.kernels[s]->moves_images()) return false;
    try {
      whole_[step.output()] = loaded_.kernels[s]->shape(step_shapes(loaded_, s, whole_));
      one_[step.output()] = loaded_.kernels[s]->shape(step_shapes(loaded_, s, one_));
      element_count(whole_[step.output()]);
    } catch (const std::invalid_argument&) {
      return false;  // shapes that name the batch
    }
    return is_batch(step.output()) && std::ranges::all_of(step.inputs, [&](int v) {
             return (is_batch(v) && is_aligned(step, v)) ||
                    is_same_for_images(loaded_.program->values()[v], whole_[step.output()]);
           });
  }

 private:
  // Operands are broadcast from their last dims: one of a lower rank has its batch elsewhere.
  bool is_aligned(const Step& step, int v) const {
    return step.inputs.size() == 1 || whole_[v].size() == whole_[step.output()].size();
  }

  bool is_batch(int v) const {
    const bool varies = starts_with(loaded_.program->values()[v].shape, -1) && starts_with(whole_[v], batch_) &&
                        starts_with(one_[v], 1);
    return varies && std::equal(whole_[v].begin() + 1, whole_[v].end(), one_[v].begin() + 1, one_[v].end()) &&
           element_count(whole_[v]) > 0;
  }

  const LoadedProgram& loaded_;
  int64_t batch_;
  ValueShapes whole_, one_;
};

// The most images, as a divisor of the batch, whose values at one step stay close.
int64_t images_for(int64_t batch, int64_t bytes_of_one) {
  int64_t images = std::clamp<int64_t>(kCloseBytes / std::max<int64_t>(bytes_of_one, 1), 1, batch);
  while (batch % images != 0) --images;
  return images;
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
    int64_t moved = bytes_of(program, step.output(), prefix.one());
    for (const int v : step.inputs) moved += bytes_of(program, v, prefix.one());
    widest = std::max(widest, moved);
    const int64_t images = images_for(batch, widest);
    const int64_t traffic = moved * batch > kCloseBytes ? moved * batch : 0;
    saved += traffic - static_cast<int64_t>(loaded.kernels[s]->packed_bytes()) * (batch / images - 1) / kWeightDiscount;
    const int value = frontier.single(s);
    if (saved <= best_saved || value < 0 || images == batch) continue;
    best_saved = saved;
    best = SliceChoice{s + 1, value, images, batch / images};
  }
  return best;
}

}  // namespace qfx
