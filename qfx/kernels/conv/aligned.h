#pragma once
#include <cstddef>
#include <new>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace qfx::conv {

// Packed weights start at cache lines; many of them lie in huge pages, since reading them once from beyond L2 is what
// a layer of few rows does.
template <class T>
struct CacheLineAllocator {
  using value_type = T;
  static constexpr size_t kHugePage = size_t{2} << 20;
  CacheLineAllocator() = default;
  template <class U>
  CacheLineAllocator(const CacheLineAllocator<U>&) noexcept {}
  T* allocate(size_t n) {
    void* p = ::operator new(n * sizeof(T), alignment(n));
#if defined(__linux__)
    if (huge(n)) ::madvise(p, n * sizeof(T), MADV_HUGEPAGE);  // advice: no matter if it is not taken
#endif
    return static_cast<T*>(p);
  }
  void deallocate(T* p, size_t n) noexcept { ::operator delete(p, alignment(n)); }
  bool operator==(const CacheLineAllocator&) const = default;

 private:
  static bool huge(size_t n) noexcept { return n >= kHugePage / sizeof(T); }
  static std::align_val_t alignment(size_t n) noexcept { return std::align_val_t{huge(n) ? kHugePage : 64}; }
};

template <class T>
using AlignedVector = std::vector<T, CacheLineAllocator<T>>;

}  // namespace qfx::conv
