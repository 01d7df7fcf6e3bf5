#include "runtime/buffer.h"

#include <cstdlib>
#include <cstring>
#include <new>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace qfx {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;

}  // namespace

AlignedBuffer::AlignedBuffer(size_t bytes) : size_(bytes) {
  const size_t total = bytes + kReadSlack;
  if (total < bytes) throw std::bad_alloc();
  const size_t alignment = total >= 2 * kHugePage ? kHugePage : kAlignment;
  const size_t rounded = (total + alignment - 1) / alignment * alignment;
  auto* memory = static_cast<std::byte*>(std::aligned_alloc(alignment, rounded));
  if (memory == nullptr) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
  if (alignment == kHugePage) madvise(memory, rounded, MADV_HUGEPAGE);
#endif
  std::memset(memory + bytes, 0, kReadSlack);
  data_.reset(memory);
}

void reserve(AlignedBuffer& buffer, size_t bytes) {
  if (buffer.data() != nullptr && buffer.size() >= bytes) return;
  buffer = AlignedBuffer();
  buffer = AlignedBuffer(bytes);
}

void AlignedBuffer::Free::operator()(std::byte* p) const noexcept {
  std::free(p);
}

}  // namespace qfx
