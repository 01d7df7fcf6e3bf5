#pragma once
#include <cstdint>
#include <span>
#include <string>

#include "runtime/dtype.h"

namespace qfx {

// Number of elements. Throws std::invalid_argument for a negative dim or a product beyond 2^46.
int64_t element_count(std::span<const int64_t> dims);

// Bytes of that many elements; throws as element_count.
int64_t byte_size(std::span<const int64_t> dims, DType dtype);

Dims dense_strides(const Dims& shape);

// Whether elements lie in row-major order without gaps; strides of size-1 dims do not matter.
bool is_dense(const Dims& shape, const Dims& strides) noexcept;

// Replaces the strides of size-1 dims by the dense ones, so that equal layouts compare equal.
void canonicalize_strides(const Dims& shape, Dims& strides) noexcept;

// `dims` with leading 1s up to `rank`.
Dims pad_rank(const Dims& dims, size_t rank);

// numpy broadcasting. Throws std::invalid_argument when the shapes do not fit.
Dims broadcast(const Dims& a, const Dims& b);

// Output size of a sliding window; torch's rules for ceil_mode (the last window starts inside input or left padding,
// and may reach beyond the right one, as even the only window may). Throws std::invalid_argument when the window does
// not fit once.
int64_t window_output(int64_t in, int64_t kernel, int64_t stride, int64_t dilation, int64_t pad_lo, int64_t pad_hi,
                      bool ceil_mode);

std::string to_string(std::span<const int64_t> dims);

}  // namespace qfx
