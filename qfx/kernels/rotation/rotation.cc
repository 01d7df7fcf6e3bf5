#include "rotation/rotation.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/split.h"
#include "rotation/kernels.h"

namespace qfx {
namespace {

class RotateWork final : public Work {
 public:
  RotateWork(int64_t blocks, int64_t block, Isa isa)
      : blocks_(blocks), block_(block), kernel_(rotation::select<rotation::Rotate>(isa)) {}

  void run(const void* const* in, void* const* out, std::byte*, int tid, int threads) const noexcept override {
    const Range part = split(blocks_, tid, threads);
    const int64_t first = part.begin * block_;
    kernel_.run(static_cast<const float*>(in[0]) + first, static_cast<float*>(out[0]) + first, part.end - part.begin,
                block_);
  }

  int64_t cost() const noexcept override { return 12 * blocks_ * block_; }
  std::vector<const char*> kernels() const override { return {kernel_.name}; }

 private:
  int64_t blocks_, block_;
  Kernel<rotation::Rotate> kernel_;
};

}  // namespace

std::unique_ptr<Work> plan_rotate(int64_t blocks, int64_t block, Isa isa) {
  if (blocks < 0) throw std::invalid_argument("a negative number of blocks");
  if (std::ranges::count(rotation::kBlocks, block) == 0)
    throw std::invalid_argument("no rotation has blocks of " + std::to_string(block));
  return std::make_unique<RotateWork>(blocks, block, isa);
}

}  // namespace qfx
