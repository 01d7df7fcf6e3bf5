#pragma once
#include <cstdint>
#include <memory>

#include "attention/kernels.h"
#include "core/isa.h"
#include "core/work.h"

namespace qfx {

// Elements between neighbours of a tensor whose last dim is dense.
struct HeadStrides {
  int64_t batch = 0, head = 0, row = 0;
};

struct AttentionShape {
  int64_t batch = 0, heads = 0, key_heads = 0;  // head h reads key head h / (heads / key_heads)
  int64_t queries = 0, keys = 0;                // rows
  int64_t depth = 0, width = 0;                 // columns of q and k, and of v and the result
  HeadStrides q, k, v, out;
  // Of a mask; 0 where it broadcasts.
  int64_t mask_batch = 0, mask_head = 0, mask_row = 0, mask_column = 0;
};

struct AttentionParams {
  float factor = 1.0f;  // of q @ k before the exponential, whose base is 2: the scale times log2(e)
  bool causal = false;  // query i sees the keys up to i
  attention::MaskType mask = attention::MaskType::none;
};

// Attention of f32 operands with both products in 8 bits. Work::run takes in = {q, k, v[, mask]}, out = {result}.
// Throws std::invalid_argument for what could not be computed exactly.
//
// Each row of a head has a scale: codes = rint(x * (127 / most)) with most = max(max |x|, 2^-60), scale = most / 127.
// With S the exact product of the codes of query i and key j:
//   x = (float(S) * key_scale[j]) * (query_scale[i] * factor)
//   e = x + (m + log2(value_scale[j]))      m: 0, or of the mask
// so that the values' scales are part of the probabilities. Keys are taken by blocks of 32, each against its own
// greatest e, M:
//   u = 2^((e - M) + log2(255)),  w = rint(u),  s = sum of u * (1 / value_scale[j]),  acc[d] = sum of w * value code
// and with g = 2^(M - greatest M) of each block
//   result[d] = (sum of float(acc[d]) * g) * (1 / sum of s * g)
// Everything is float32, each operation rounded on its own, sums of floats in the order of the keys; functions.h has
// the exponential and the logarithm. The m of a mask entry: 0 or -infinity of a bool; of a float its product with
// log2(e), from -FLT_MAX up, -infinity where it is that, and infinity of NaN. Keys that a query does not see have m =
// -infinity.
//
// Rows of their own: without keys, zeros; NaN where the query's row, or any row of the keys or values of the head, is
// not finite; zeros where every e is -infinity. Where the greatest e is below -2^100, as with the least float in a
// mask, all keys whose x + m is greatest have e = log2(value_scale[j]) and the others -infinity. A NaN e is -infinity.
std::unique_ptr<Work> plan_attention(const AttentionParams& params, const AttentionShape& shape, Isa isa);

namespace attention {

// The same with that kernel.
std::unique_ptr<Work> plan_attention_kernel(const Kernel<Attend>& kernel, const AttentionParams& params,
                                            const AttentionShape& shape);

}  // namespace attention
}  // namespace qfx
