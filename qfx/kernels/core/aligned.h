#pragma once
#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace qfx {

// In whole cache lines.
constexpr int64_t in_lines(int64_t bytes) noexcept {
  return (bytes + 63) / 64 * 64;
}

constexpr size_t kHugePage = size_t{2} << 20;

#if defined(__linux__)

// Memory of its own that starts with a huge page: what the heap hands out a second time lies in small pages already.
inline void* map_huge(size_t bytes) {
  void* all = ::mmap(nullptr, bytes + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (all == MAP_FAILED) throw std::bad_alloc();
  const size_t before = -reinterpret_cast<uintptr_t>(all) % kHugePage;
  auto* begin = static_cast<std::byte*>(all) + before;
  if (before > 0) ::munmap(all, before);
  ::munmap(begin + bytes, kHugePage - before);  // both in whole pages
  ::madvise(begin, bytes, MADV_HUGEPAGE);       // advice: no matter if it is not taken
  return begin;
}

inline void unmap_huge(void* p, size_t bytes) noexcept {
  ::munmap(p, bytes);
}

#else

inline void* map_huge(size_t bytes) {
  return ::operator new(bytes, std::align_val_t{kHugePage});
}

inline void unmap_huge(void* p, size_t) noexcept {
  ::operator delete(p, std::align_val_t{kHugePage});
}

#endif

// Packed weights start at cache lines; many of them lie in huge pages, since reading them once from beyond L2 is what
// a layer of few rows does.
template <class T>
struct CacheLineAllocator {
  using value_type = T;
  CacheLineAllocator() = default;
  template <class U>
  CacheLineAllocator(const CacheLineAllocator<U>&) noexcept {}  // NOLINT(misc-explicit-constructor): they convert
  T* allocate(size_t n) { return static_cast<T*>(huge(n) ? map_huge(pages(n)) : ::operator new(n * sizeof(T), kLine)); }
  void deallocate(T* p, size_t n) noexcept { huge(n) ? unmap_huge(p, pages(n)) : ::operator delete(p, kLine); }
  bool operator==(const CacheLineAllocator&) const = default;

 private:
  static constexpr std::align_val_t kLine{64};
  static constexpr size_t kPages = size_t{64} << 10;  // bytes that are whole pages on every machine
  static bool huge(size_t n) noexcept { return n >= kHugePage / sizeof(T); }
  static size_t pages(size_t n) noexcept { return (n * sizeof(T) + kPages - 1) / kPages * kPages; }
};

template <class T>
using AlignedVector = std::vector<T, CacheLineAllocator<T>>;

}  // namespace qfx
