#include <algorithm>
#include <stdexcept>

#include "core/bytes.h"
#include "core/nest.h"
#include "move/kernels.h"
#include "move/move.h"

namespace qfx {
namespace {

using namespace move;

constexpr int64_t kBlock = 64;  // elements a side of one transposed tile

// Rows that are dense in x, or read element by element.
template <class T>
class CopyRows final : public Work {
 public:
  CopyRows(Nest<1> nest, int64_t offset) : row_(nest.pop()), outer_(nest), offset_(offset) {}

  void run(const void* const* in, void* const* out, std::byte*, int tid, int threads) const noexcept override {
    const T* x = static_cast<const T*>(in[0]) + offset_;
    T* y = static_cast<T*>(out[0]);
    const Range part = split(outer_.count() * row_.size, tid, threads, 64);
    for_each_row(part, outer_, row_.size, [&](const int64_t* offset, int64_t row, int64_t column, int64_t n) {
      const int64_t step = row_.stride[0];
      const T* from = x + offset[0] + column * step;
      T* to = y + row * row_.size + column;
      if (dense())
        copy_bytes(to, from, n * static_cast<int64_t>(sizeof(T)));
      else
        for (int64_t i = 0; i < n; ++i) to[i] = from[i * step];
    });
  }

  int64_t cost() const noexcept override { return 2 * outer_.count() * row_.size * static_cast<int64_t>(sizeof(T)); }
  std::string details() const override { return dense() ? "copy rows" : "copy strided"; }

 private:
  bool dense() const noexcept { return row_.stride[0] == 1 || row_.size == 1; }

  Nest<1>::Loop row_;
  Nest<1> outer_;
  int64_t offset_;
};

// The innermost two dims are a transposed matrix: y rows are x columns.
template <class Kind, class T>
class CopyTransposed final : public Work {
 public:
  CopyTransposed(Nest<1> nest, int64_t offset, Isa isa)
      : inner_(nest.pop()), middle_(nest.pop().size), outer_(nest), offset_(offset), kernel_(select<Kind>(isa)) {}

  // Parts are cut along the rows of x: the innermost dim of y.
  void run(const void* const* in, void* const* out, std::byte*, int tid, int threads) const noexcept override {
    const T* x = static_cast<const T*>(in[0]) + offset_;
    T* y = static_cast<T*>(out[0]);
    const Range part = split(outer_.count() * inner_.size, tid, threads, 16);
    for_each_row(part, outer_, inner_.size, [&](const int64_t* offset, int64_t row, int64_t first, int64_t n) {
      run_tiles(x + offset[0] + first * inner_.stride[0], y + row * middle_ * inner_.size + first, n);
    });
  }

  int64_t cost() const noexcept override {
    return 2 * outer_.count() * middle_ * inner_.size * static_cast<int64_t>(sizeof(T));
  }
  std::vector<const char*> kernels() const override { return {kernel_.name}; }

 private:
  void run_tiles(const T* x, T* y, int64_t n) const noexcept {
    for (int64_t r = 0; r < n; r += kBlock)
      for (int64_t c = 0; c < middle_; c += kBlock)
        kernel_.run(x + r * inner_.stride[0] + c, inner_.stride[0], y + c * inner_.size + r, inner_.size,
                    std::min(kBlock, n - r), std::min(kBlock, middle_ - c));
  }

  Nest<1>::Loop inner_;
  int64_t middle_;
  Nest<1> outer_;
  int64_t offset_;
  Kernel<Kind> kernel_;
};

std::unique_ptr<Work> copy_rows(const Nest<1>& nest, int64_t offset, int element_size) {
  switch (element_size) {
    case 1:
      return std::make_unique<CopyRows<uint8_t>>(nest, offset);
    case 2:
      return std::make_unique<CopyRows<uint16_t>>(nest, offset);
    case 4:
      return std::make_unique<CopyRows<uint32_t>>(nest, offset);
    case 8:
      return std::make_unique<CopyRows<uint64_t>>(nest, offset);
    default:
      throw std::invalid_argument("an element size other than 1, 2, 4, 8");
  }
}

bool is_transposed(const Nest<1>& nest) {
  const int r = nest.rank;
  return r >= 2 && nest.stride[0][r - 1] != 1 && nest.stride[0][r - 2] == 1 && nest.size[r - 2] > 1;
}

}  // namespace

std::unique_ptr<Work> plan_copy(const Strided& geometry, Isa isa) {
  if (geometry.shape.size() != geometry.strides.size())
    throw std::invalid_argument("shape and strides of different rank");
  element_count(geometry.shape);
  const std::vector<int64_t> strides[] = {geometry.strides};
  const Nest<1> nest = collapse(geometry.shape, strides);
  if (is_transposed(nest) && geometry.element_size == 1)
    return std::make_unique<CopyTransposed<TransposeU8, uint8_t>>(nest, geometry.offset, isa);
  if (is_transposed(nest) && geometry.element_size == 4)
    return std::make_unique<CopyTransposed<TransposeU32, uint32_t>>(nest, geometry.offset, isa);
  return copy_rows(nest, geometry.offset, geometry.element_size);
}

}  // namespace qfx
