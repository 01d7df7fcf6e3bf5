#pragma once
#include "runtime/dtype.h"
#include "runtime/plan.h"

namespace qfx {

// Whether a program's input of type `to` may be given as `from`: as torch converts it, s8 codes for u8 ones with 128
// added.
bool is_convertible(DType from, DType to) noexcept;

// The elements of x, laid out like that, as dense ones of another type.
void convert(const void* x, DType from, const InputLayout& layout, void* y, DType to);

}  // namespace qfx
