#include "index/index.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "core/nest.h"
#include "core/split.h"
#include "index/refusing.h"

namespace qfx {
namespace {

std::string places(int64_t size) {
  return std::to_string(size) + (size == 1 ? " place" : " places");
}

// Zeros in place of nothing.
void copy(const std::byte* from, std::byte* to, int64_t bytes) noexcept {
  if (from != nullptr) {
    std::memcpy(to, from, static_cast<size_t>(bytes));
  } else {
    std::memset(to, 0, static_cast<size_t>(bytes));
  }
}

constexpr int kMostIndices = 3;

class GatherWork final : public Refusing {
 public:
  explicit GatherWork(const GatherShape& shape)
      : element_(shape.element), size_(shape.x[shape.axis]), count_(element_count(shape.index)) {
    std::vector<int64_t> strides[] = {dense_strides(shape.x)};
    step_ = strides[0][shape.axis];
    strides[0][shape.axis] = 0;
    nest_ = collapse(shape.index, strides);
  }

  void run(const void* const* in, void* const* out, std::byte* scratch, int tid, int threads) const noexcept override {
    const Range part = split(count_, tid, threads, 16);
    const auto* index = static_cast<const int64_t*>(in[1]);
    bool outside = false;
    say(scratch, outside);
    if (part.begin >= part.end) return;
    Cursor<1> cursor(nest_, part.begin);
    for (int64_t i = part.begin; i < part.end; ++i, cursor.advance()) {
      const bool inside = index[i] >= 0 && index[i] < size_;
      outside |= !inside;
      copy(inside ? static_cast<const std::byte*>(in[0]) + (cursor.offset[0] + index[i] * step_) * element_ : nullptr,
           static_cast<std::byte*>(out[0]) + i * element_, element_);
    }
    say(scratch, outside);
  }

  int64_t cost() const noexcept override { return count_ * (16 + 2 * element_); }
  std::string refusal() const override { return "An index is outside of its dim, which has " + places(size_) + "."; }

 private:
  int64_t element_, size_, count_, step_ = 0;
  Nest<1> nest_;
};

class TakeWork final : public Refusing {
 public:
  explicit TakeWork(const TakeShape& shape) : bytes_(shape.bytes), indices_(static_cast<int>(shape.dims.size())) {
    std::vector<int64_t> strides[kMostIndices], result(shape.index[0].size(), 1);
    for (const auto& index : shape.index) {
      for (size_t d = 0; d < result.size(); ++d) result[d] = index[d] == 1 ? result[d] : index[d];
    }
    for (int k = 0; k < kMostIndices; ++k) {
      const auto& index = shape.index[static_cast<size_t>(std::min(k, indices_ - 1))];
      strides[k] = dense_strides(index);
      for (size_t d = 0; d < result.size(); ++d) strides[k][d] = index[d] == 1 ? 0 : strides[k][d];
    }
    for (int k = 0; k < indices_; ++k) size_[k] = shape.dims[static_cast<size_t>(k)];
    count_ = element_count(result);
    nest_ = collapse(result, strides);
  }

  void run(const void* const* in, void* const* out, std::byte* scratch, int tid, int threads) const noexcept override {
    const Range part = split(count_, tid, threads);
    bool outside = false;
    say(scratch, outside);
    if (part.begin >= part.end) return;
    Cursor<kMostIndices> cursor(nest_, part.begin);
    for (int64_t i = part.begin; i < part.end; ++i, cursor.advance()) {
      int64_t place = 0;
      bool inside = true;
      for (int k = 0; k < indices_; ++k) {
        int64_t at = static_cast<const int64_t*>(in[1 + k])[cursor.offset[k]];
        inside &= at >= -size_[k] && at < size_[k];
        at += at < 0 ? size_[k] : 0;
        place = inside ? place * size_[k] + at : 0;
      }
      outside |= !inside;
      copy(inside ? static_cast<const std::byte*>(in[0]) + place * bytes_ : nullptr,
           static_cast<std::byte*>(out[0]) + i * bytes_, bytes_);
    }
    say(scratch, outside);
  }

  int64_t cost() const noexcept override { return count_ * (16 + 2 * bytes_); }

  std::string refusal() const override {
    std::string sizes = places(size_[0]);
    for (int k = 1; k < indices_; ++k) sizes += " and " + places(size_[k]);
    return "An index is outside of its dim, which has " + sizes + ".";
  }

 private:
  int64_t bytes_, count_ = 0;
  int indices_;
  int64_t size_[kMostIndices] = {};
  Nest<kMostIndices> nest_;
};

}  // namespace

std::unique_ptr<Work> plan_gather(const GatherShape& shape) {
  return std::make_unique<GatherWork>(shape);
}

std::unique_ptr<Work> plan_take(const TakeShape& shape) {
  return std::make_unique<TakeWork>(shape);
}

}  // namespace qfx
