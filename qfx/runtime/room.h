#pragma once
#include <cstddef>

#include "runtime/buffer.h"

namespace qfx {

// Memory that runs need more or less of: it grows at once, and gives back what was taken for a large run when many
// smaller ones have followed it. What is in it is lost when it does either.
class Room {
 public:
  // Room for `bytes` at least. Throws std::bad_alloc.
  void fit(size_t bytes) {
    const bool is_far_less = buffer_.size() >= kKept && bytes <= buffer_.size() / 4;
    small_runs_ = is_far_less ? small_runs_ + 1 : 0;
    if (small_runs_ >= kPatience) buffer_ = AlignedBuffer();
    reserve(buffer_, bytes);
  }

  std::byte* data() const noexcept { return buffer_.data(); }
  size_t size() const noexcept { return buffer_.size(); }

 private:
  static constexpr size_t kKept = size_t{1} << 20;  // less is never given back
  static constexpr int kPatience = 32;

  AlignedBuffer buffer_;
  int small_runs_ = 0;
};

}  // namespace qfx
