#pragma once
#include <cstdint>

#include "core/split.h"
#include "core/work.h"

namespace qfx {

// What some works can do besides: rows of f32 one by one, so that several follow one another on a row that is in cache.

// Each row of `width` floats becomes another.
class RowMap {
 public:
  // `rows` that lie together; y may be x.
  virtual void map(const float* x, float* y, int64_t rows, int64_t width) const noexcept = 0;

 protected:
  ~RowMap() = default;
};

// Each row of `width` floats becomes that row of the results.
class RowEnd {
 public:
  // Some rows of all, of which the first is at x; out and scratch as Work::run() has them.
  virtual void end(const float* x, void* const* out, std::byte* scratch, Range rows, int64_t width) const noexcept = 0;

 protected:
  ~RowEnd() = default;
};

}  // namespace qfx
