#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace qfx::gemm {

// Products of u8 activations and s8 weights in 16 bits, exactly, whatever the activations: vpmaddubsw adds the products
// of two neighbours and saturates, so what may be added in 16 bits depends on the weights.
//   plain   x * w, of a step where no two neighbours can saturate: at most 128 of either sign.
//   turned  |w| * s8(x ^ mask), mask 0x80 where w >= 0 and 0x7f where it is negative: w * x less 128 * w, or less
//           127 * w. It lies in [-128 |w|, 127 |w|], which never saturates.
// Two steps whose sums fit together are added in 16 bits before they are widened. The steps of a run are ordered by
// what is done with them.
enum class Pairing { turned_and_plain, both_turned, plain, turned };
constexpr int kPairings = 4;
constexpr int64_t kPairedColumns = 16;  // of a panel at most

// Appends a run of a panel, whose weights are packed [step][columns][4]:
//   order    for each Pairing the number of its groups, followed by the byte offsets within the run of their steps
//   weights  group by group: the first step's [columns][4], as magnitudes where it is turned; the second step's; then
//            the masks of those that are turned
// and adds to bias[columns] what turned products lack, modulo 2^32.
void pair_run(const int8_t* packed, int64_t steps, int64_t columns, std::vector<int32_t>& order,
              std::vector<std::byte>& weights, int32_t* bias);

}  // namespace qfx::gemm
