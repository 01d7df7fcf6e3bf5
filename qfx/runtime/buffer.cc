#include "runtime/buffer.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace qfx {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;

// Memory of many huge pages asks the system for them.
void* allocate_own(void*, size_t bytes, size_t alignment) {
  if (bytes >= 2 * kHugePage) alignment = kHugePage;
  const size_t rounded = (bytes + alignment - 1) / alignment * alignment;
  if (rounded < bytes) return nullptr;
  void* memory = std::aligned_alloc(alignment, rounded);
#ifdef MADV_HUGEPAGE
  if (memory != nullptr && alignment == kHugePage) madvise(memory, rounded, MADV_HUGEPAGE);
#endif
  return memory;
}

void release_own(void*, void* memory, size_t) {
  std::free(memory);
}

constexpr Allocator kOwn{allocate_own, release_own, nullptr};

constinit std::mutex chosen_mutex;
constinit Allocator chosen = kOwn;

Allocator current() noexcept {
  const std::scoped_lock guard(chosen_mutex);
  return chosen;
}

}  // namespace

void set_allocator(const Allocator* allocator) noexcept {
  const std::scoped_lock guard(chosen_mutex);
  chosen = allocator == nullptr ? kOwn : *allocator;
}

AlignedBuffer::AlignedBuffer(size_t bytes) : size_(bytes) {
  const size_t total = bytes + kReadSlack;
  if (total < bytes) throw std::bad_alloc();
  const Allocator from = current();
  auto* memory = static_cast<std::byte*>(from.allocate(from.context, total, kAlignment));
  data_ = {memory, {from, total}};
  const bool is_aligned = reinterpret_cast<uintptr_t>(memory) % kAlignment == 0;
  if (memory == nullptr || !is_aligned) throw std::bad_alloc();
  std::memset(memory + bytes, 0, kReadSlack);
}

void reserve(AlignedBuffer& buffer, size_t bytes) {
  if (buffer.data() != nullptr && buffer.size() >= bytes) return;
  buffer = AlignedBuffer();
  buffer = AlignedBuffer(bytes);
}

}  // namespace qfx
