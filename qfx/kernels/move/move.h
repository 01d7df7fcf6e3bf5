#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/isa.h"
#include "core/work.h"

namespace qfx {

// A strided copy: y dense with `shape`, read from x + offset with element strides `strides`
// (0 repeats, negative reverses). Covers permute, slice, expand, and contiguous.
struct Strided {
  std::vector<int64_t> shape, strides;
  int64_t offset = 0;  // elements
  int element_size = 1;
};
std::unique_ptr<Work> plan_copy(const Strided& geometry, Isa isa);

// Concatenation of [outer][inner_i] blocks; in = one pointer an operand, out = {y}. Operands marked in `placed` lie in
// y already; empty: none.
std::unique_ptr<Work> plan_concat(int64_t outer, const std::vector<int64_t>& inner, int element_size, Isa isa,
                                  const std::vector<char>& placed = {});

enum class PadMode : int { constant, reflect, replicate, circular };
// y dims = lo + x dims + hi; `fill` is one element (element_size bytes). Negative padding crops (constant only).
std::unique_ptr<Work> plan_pad(const std::vector<int64_t>& shape, const std::vector<int64_t>& lo,
                               const std::vector<int64_t>& hi, PadMode mode, std::span<const std::byte> fill,
                               int element_size, Isa isa);

}  // namespace qfx
