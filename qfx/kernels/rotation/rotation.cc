#include "rotation/rotation.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/row_work.h"
#include "core/split.h"
#include "rotation/kernels.h"

namespace qfx {
namespace {

class RotateWork final : public Work, public RowMap {
 public:
  RotateWork(int64_t blocks, int64_t block, Isa isa)
      : blocks_(blocks), block_(block), kernel_(rotation::select<rotation::Rotate>(isa)) {}

  void run(const void* const* in, void* const* out, std::byte*, int tid, int threads) const noexcept override {
    const Range part = split(blocks_, tid, threads);
    const int64_t first = part.begin * block_;
    kernel_.run(static_cast<const float*>(in[0]) + first, static_cast<float*>(out[0]) + first, part.end - part.begin,
                block_);
  }
  void map(const float* x, float* y, int64_t rows, int64_t width) const noexcept override {
    kernel_.run(x, y, rows * width / block_, block_);
  }

  int64_t cost() const noexcept override { return 12 * blocks_ * block_; }
  std::vector<const char*> kernels() const override { return {kernel_.name}; }

 private:
  int64_t blocks_, block_;
  Kernel<rotation::Rotate> kernel_;
};

class RotateRowsWork final : public Work, public RowEnd {
 public:
  RotateRowsWork(int64_t rows, int64_t block, const QuantizedRows& how)
      : rows_(rows), block_(block), how_(how), kernel_(rotation::select<rotation::RotateExtent>(how.isa)) {}

  void run(const void* const* in, void* const* out, std::byte* scratch, int tid, int threads) const noexcept override {
    const Range part = split(rows_, tid, threads);
    const int64_t n = how_.layout.features;
    end(static_cast<const float*>(in[0]) + part.begin * n, out, scratch, part, n);
  }
  void end(const float* x, void* const* out, std::byte* scratch, Range rows, int64_t n) const noexcept override {
    auto* rotated = reinterpret_cast<float*>(scratch);
    gemm::DynamicRows to = how_.layout.rows_in(static_cast<std::byte*>(out[0]), rows_);
    to.narrow = reinterpret_cast<uint8_t*>(rotated + n);
    for (int64_t r = rows.begin; r < rows.end; ++r, x += n) {
      float low = 0.0f, high = 0.0f;
      kernel_.run(x, rotated, n / block_, block_, &low, &high);
      how_.layout.quantize(rotated, {affine_of(low, high), how_.isa}, to, r);
    }
  }

  size_t scratch_bytes() const noexcept override {
    const int64_t n = how_.layout.features;
    return static_cast<size_t>(n) * sizeof(float) + static_cast<size_t>(how_.layout.wide ? n : 0);
  }
  int64_t cost() const noexcept override { return 18 * rows_ * how_.layout.features; }
  std::vector<const char*> kernels() const override {
    return {kernel_.name, elementwise::select<elementwise::Quantize>(how_.isa).name};
  }

 private:
  int64_t rows_, block_;
  QuantizedRows how_;
  Kernel<rotation::RotateExtent> kernel_;
};

}  // namespace

std::unique_ptr<Work> plan_rotate_rows(int64_t rows, int64_t block, const QuantizedRows& how) {
  return std::make_unique<RotateRowsWork>(rows, block, how);
}

std::unique_ptr<Work> plan_rotate(int64_t blocks, int64_t block, Isa isa) {
  if (blocks < 0) throw std::invalid_argument("a negative number of blocks");
  if (std::ranges::count(rotation::kBlocks, block) == 0)
    throw std::invalid_argument("no rotation has blocks of " + std::to_string(block));
  return std::make_unique<RotateWork>(blocks, block, isa);
}

}  // namespace qfx
