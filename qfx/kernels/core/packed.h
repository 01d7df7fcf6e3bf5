#pragma once
#include <cstddef>
#include <memory>
#include <span>
#include <utility>

#include "core/aligned.h"

namespace qfx {

// Where packing puts what it makes, or takes what was made before: a list, in the order in which a program's kernels
// ask. What a store gives is not looked at: any bytes must be safe to compute with, if not right.
class PackingStore {
 public:
  struct Bytes {
    const std::byte* data;  // null: to be made
    std::shared_ptr<const void> owner;
  };

  virtual ~PackingStore() = default;
  // The next ones. Throws std::invalid_argument if they are not as many.
  virtual Bytes take(size_t bytes) = 0;
  // Those that were asked for and had to be made.
  virtual void made(std::span<const std::byte> bytes) = 0;
};

// The store of what is packed on this thread; null: none.
PackingStore*& packing_store() noexcept;

// Elements that packing made, which nobody changes.
template <class T>
class PackedArray {
 public:
  PackedArray() = default;
  // fill(T*) makes `size` of them out of zeros, unless the store has them.
  template <class Fill>
  PackedArray(size_t size, Fill&& fill) : size_(size) {
    PackingStore* store = packing_store();
    PackingStore::Bytes taken = store == nullptr ? PackingStore::Bytes{} : store->take(size * sizeof(T));
    if (taken.data != nullptr) {
      data_ = reinterpret_cast<const T*>(taken.data);
      owner_ = std::move(taken.owner);
      return;
    }
    auto made = std::make_shared<AlignedVector<T>>(size);
    std::forward<Fill>(fill)(made->data());
    data_ = made->data();
    owner_ = std::move(made);
    if (store != nullptr) store->made(std::as_bytes(std::span(data_, size)));
  }
  // Made already, and of no store.
  explicit PackedArray(AlignedVector<T> made) : size_(made.size()) {
    auto kept = std::make_shared<AlignedVector<T>>(std::move(made));
    data_ = kept->data();
    owner_ = std::move(kept);
  }

  const T* data() const noexcept { return data_; }
  size_t size() const noexcept { return size_; }
  const T* begin() const noexcept { return data_; }
  const T* end() const noexcept { return data_ + size_; }
  const T& operator[](size_t i) const noexcept { return data_[i]; }

 private:
  const T* data_ = nullptr;
  size_t size_ = 0;
  std::shared_ptr<const void> owner_;
};

}  // namespace qfx
