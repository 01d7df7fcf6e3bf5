#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/work.h"

namespace qfx {

// Types of elements: truth values are bytes of 0 or 1.
enum class Element { f32, s32, s64, boolean };

// The number of f32, or what is nearest to it, halves to even; of s32 and s64 the integer towards 0, the largest or
// smallest beyond them, 0 of NaN; of truth values whether it is not 0.
std::unique_ptr<Work> plan_cast(Element from, Element to, int64_t count);

// Of elements of one type, which broadcast: add, sub, mul, minimum and maximum of integers, modulo 2^32 or 2^64; and,
// or, xor of integers and truth values; eq, ne, lt, le, gt, ge of all, as truth values. Throws std::invalid_argument
// for anything else.
std::unique_ptr<Work> plan_pairwise(const std::string& function, Element type, const std::vector<int64_t>& a,
                                    const std::vector<int64_t>& b);
bool is_comparison(const std::string& function) noexcept;

// The element of a where the condition holds, else that of b; of 1, 4 or 8 bytes; all broadcast.
std::unique_ptr<Work> plan_where(int64_t element, const std::vector<int64_t>& condition, const std::vector<int64_t>& a,
                                 const std::vector<int64_t>& b);

// s64: the first element of in[0], and each next one more by `step`.
std::unique_ptr<Work> plan_arange(int64_t count, int64_t step);

// Of s64 [outer, n, inner], modulo 2^64.
std::unique_ptr<Work> plan_cumsum(int64_t outer, int64_t n, int64_t inner);

// Of f32 or s64 [outer, n, inner]: where the largest is, the first of several; NaN is larger than anything.
std::unique_ptr<Work> plan_argmax(Element type, int64_t outer, int64_t n, int64_t inner);

}  // namespace qfx
