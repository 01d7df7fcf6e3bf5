#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "core/isa.h"
#include "core/work.h"
#include "index/rows.h"

namespace qfx {

// Integers [count] to f32 [count][features]. Of an index outside of the table, the row is 0 and the work refuses.
template <class T>
std::unique_ptr<Work> plan_embedding(const RowTable& table, int64_t count);

// What becomes of the rows that the indices of a bag take: added one after the other in float32 from 0 on; the sum over
// their number; or the largest, as far as later ones are larger. Of no rows it is 0.
enum class BagMode { sum, mean, max };

struct Bags {
  BagMode mode = BagMode::sum;
  int64_t count = 0;     // of bags
  int64_t indices = 0;   // of all bags together
  int64_t starts = 0;    // numbers that say where bags begin, as many or one more; 0: all bags have as many indices
  int64_t padding = -1;  // an index that no bag counts; -1: none
  bool factors = false;  // whether each row is multiplied by a number first
};

// Integers [indices] to f32 [bags][features]; the other operands are s64 [starts] and f32 [indices], where there are
// any. The work refuses an index outside of the table, and starts that do not rise from 0 to the number of indices.
template <class T>
std::unique_ptr<Work> plan_embedding_bag(const RowTable& table, const Bags& bags, Isa isa);

// Elements of 1, 4 or 8 bytes that s64 indices take along one dim.
struct GatherShape {
  int64_t element = 0;
  std::vector<int64_t> x, index;  // of one rank; beside the axis no dim of the index is longer
  size_t axis = 0;
};

// The element of in[0] at the place of each index of in[1], along the axis where the index says. Of an index that is
// not in the dim, the element is 0 and the work refuses.
std::unique_ptr<Work> plan_gather(const GatherShape& shape);

// Parts of a tensor that s64 indices of its first dims take, one index a dim: each a run of `bytes` bytes.
struct TakeShape {
  std::vector<int64_t> dims;                // the first dims of the tensor, three at most
  std::vector<std::vector<int64_t>> index;  // the shape of the index of each, of one rank; they broadcast
  int64_t bytes = 0;
};

// The part of in[0] at the indices in[1..]; those from -size to -1 count from the end. Of an index that is not in its
// dim, the part is 0 and the work refuses.
std::unique_ptr<Work> plan_take(const TakeShape& shape);

}  // namespace qfx
