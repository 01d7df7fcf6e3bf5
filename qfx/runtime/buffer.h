#pragma once
#include <cstddef>
#include <memory>

namespace qfx {

// 64-byte aligned memory with at least kReadSlack readable bytes after the last one asked for.
class AlignedBuffer {
 public:
  static constexpr size_t kAlignment = 64;
  static constexpr size_t kReadSlack = 64;

  AlignedBuffer() = default;
  explicit AlignedBuffer(size_t bytes);  // zeroed slack, the rest uninitialized; throws std::bad_alloc

  std::byte* data() const noexcept { return data_.get(); }
  size_t size() const noexcept { return size_; }

 private:
  struct Free {
    void operator()(std::byte* p) const noexcept;
  };
  std::unique_ptr<std::byte[], Free> data_;
  size_t size_ = 0;
};

// Room for `bytes` at least. What is in the buffer is lost if it had less. Throws std::bad_alloc.
void reserve(AlignedBuffer& buffer, size_t bytes);

}  // namespace qfx
