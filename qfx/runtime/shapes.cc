#include "runtime/shapes.h"

#include <algorithm>
#include <stdexcept>

namespace qfx {
namespace {

constexpr int64_t kMaxElements = int64_t{1} << 46;

}  // namespace

int64_t element_count(std::span<const int64_t> dims) {
  int64_t n = 1;
  bool too_large = false;
  for (const int64_t d : dims) {
    if (d < 0) throw std::invalid_argument("negative dimension in shape " + to_string(dims));
    if (d == 0) return 0;
    too_large = too_large || __builtin_mul_overflow(n, d, &n) || n > kMaxElements;
  }
  if (too_large) throw std::invalid_argument("shape " + to_string(dims) + " is too large");
  return n;
}

namespace {

// The stride of the next outer dimension; saturates for shapes that element_count refuses or that hold nothing.
int64_t outer_step(int64_t step, int64_t extent) noexcept {
  int64_t next = 0;
  return __builtin_mul_overflow(step, std::max<int64_t>(extent, 1), &next) ? INT64_MAX : next;
}

}  // namespace

int64_t byte_size(std::span<const int64_t> dims, DType dtype) {
  return byte_size(element_count(dims), dtype);
}

Dims dense_strides(const Dims& shape) {
  Dims strides(shape.size());
  int64_t step = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    strides[i] = step;
    step = outer_step(step, shape[i]);
  }
  return strides;
}

bool is_dense(const Dims& shape, const Dims& strides) noexcept {
  if (std::ranges::find(shape, 0) != shape.end()) return true;
  int64_t step = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    if (shape[i] != 1 && strides[i] != step) return false;
    step = outer_step(step, shape[i]);
  }
  return true;
}

void canonicalize_strides(const Dims& shape, Dims& strides) noexcept {
  const bool empty = std::ranges::find(shape, 0) != shape.end();
  int64_t step = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    if (empty || shape[i] == 1) strides[i] = step;
    step = outer_step(step, shape[i]);
  }
}

Dims pad_rank(const Dims& dims, size_t rank) {
  Dims padded(rank > dims.size() ? rank - dims.size() : 0, 1);
  padded.insert(padded.end(), dims.begin(), dims.end());
  return padded;
}

Dims broadcast(const Dims& a, const Dims& b) {
  const size_t rank = std::max(a.size(), b.size());
  Dims x = pad_rank(a, rank);
  const Dims y = pad_rank(b, rank);
  for (size_t i = 0; i < rank; ++i) {
    if (x[i] != y[i] && x[i] != 1 && y[i] != 1) {
      throw std::invalid_argument("shapes " + to_string(a) + " and " + to_string(b) + " do not broadcast");
    }
    x[i] = x[i] == 1 ? y[i] : x[i];
  }
  return x;
}

int64_t window_output(int64_t in, int64_t kernel, int64_t stride, int64_t dilation, int64_t pad_lo, int64_t pad_hi,
                      bool ceil_mode) {
  const int64_t span = in + pad_lo + pad_hi - dilation * (kernel - 1) - 1 + (ceil_mode ? stride - 1 : 0);
  if (span < 0 || (ceil_mode && in + pad_lo == 0)) {
    throw std::invalid_argument("a window of " + std::to_string(dilation * (kernel - 1) + 1) +
                                " does not fit an input of " + std::to_string(in) + " padded by " +
                                std::to_string(pad_lo) + " and " + std::to_string(pad_hi));
  }
  int64_t out = span / stride + 1;
  if (ceil_mode && (out - 1) * stride >= in + pad_lo) --out;
  return out;
}

std::string to_string(std::span<const int64_t> dims) {
  std::string text = "[";
  for (size_t i = 0; i < dims.size(); ++i) text += (i ? ", " : "") + std::to_string(dims[i]);
  return text + "]";
}

}  // namespace qfx
