#pragma once
#include <cstddef>
#include <memory>

namespace qfx {

// Where buffers come from. Neither function throws; `allocate` returns nullptr where there is no memory.
struct Allocator {
  void* (*allocate)(void* context, size_t bytes, size_t alignment) = nullptr;
  void (*release)(void* context, void* memory, size_t bytes) = nullptr;  // bytes: as they were asked for
  void* context = nullptr;
};

// Buffers come from there from now on; nullptr: as before. Those that are there go back to whom they came from.
void set_allocator(const Allocator* allocator) noexcept;

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
    Allocator from;
    size_t bytes;
    void operator()(std::byte* p) const noexcept { from.release(from.context, p, bytes); }
  };
  std::unique_ptr<std::byte[], Free> data_;
  size_t size_ = 0;
};

// Room for `bytes` at least. What is in the buffer is lost if it had less. Throws std::bad_alloc.
void reserve(AlignedBuffer& buffer, size_t bytes);

}  // namespace qfx
