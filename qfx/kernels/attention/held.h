#pragma once
// What a level's kernel keeps in its scratch. A level is a traits type:
//   Floats, Codes      a vector of one float for each query; one of kGroup codes for each
//   Code, kGroup       codes of keys and values in memory, so many of which are multiplied at once
//   kQueryShift, kWeightShift  what Codes of queries and of weights have more than they should, to be in their range
//   kOverlaps          whether there are registers for sums and, beside them, for weights
//   pack               Codes of kGroup vectors, whose low bits are codes
//   turned             where kGroup is 4 and there is it: bytes [column][row] of every 16 as [row][column]
//   shifted            Codes with that shift
//   start              minus what the shift of every code adds to the sums of a panel's columns
//   dot                acc[n] += products of the codes of each query and the kGroup codes of column n
#include <algorithm>

#include "attention/functions.h"
#include "attention/kernels.h"

namespace qfx::attention {
namespace {

constexpr int64_t kColumns = 8;  // of a panel, whose sums are in registers

constexpr int64_t up_to(int64_t n, int64_t multiple) noexcept {
  return ceil_div(n, multiple) * multiple;
}

template <class T>
struct Held {
  using V = typename T::Floats;
  using Codes = typename T::Codes;
  using Code = typename T::Code;
  static constexpr int64_t kLanes = kWidth<V>;
  static constexpr int64_t kBlockSteps = kBlock / T::kGroup;

  int64_t blocks, keys;  // keys: in whole blocks
  int64_t steps;         // of a product of q and k
  int64_t panels;        // of values
  // Of the head of keys: [panel][step][column][group].
  bool* finite;
  Code* key_codes;
  int32_t* key_start;  // sums start here, for what the queries' codes have more
  float* key_scale;
  Code* value_codes;
  int32_t* value_start;  // [panel][block][column]
  float* log_scale;
  float* reciprocal;
  // Of the head of queries.
  float* row_offset;  // of a mask of one row; -infinity behind the last key
  float* bias;        // with log_scale
  float* row_top;     // [block]: the greatest row_offset
  float* key_top;     // the greatest key_scale
  // Of the queries in the lanes.
  Codes* queries;      // [step]
  Codes* weights;      // [block][step]
  V *greatest, *sums;  // [block]
  bool* skipped;       // [block]
  V* scores;           // [kBlock] of one block, and of the next
  V* offsets;          // [kBlock], where the mask has rows
  V* results;          // [column of values]
  Code* rows;          // codes as they are made

  Held(Room& room, const Piece& p) noexcept
      : blocks(ceil_div(p.keys, kBlock)),
        keys(blocks * kBlock),
        steps(ceil_div(p.depth, T::kGroup)),
        panels(ceil_div(p.width, kColumns)),
        finite(room.take<bool>(1)),
        key_codes(room.take<Code>(keys * steps * T::kGroup)),
        key_start(room.take<int32_t>(T::kQueryShift != 0 ? keys : 0)),
        key_scale(room.take<float>(keys)),
        value_codes(room.take<Code>(panels * kColumns * keys)),
        value_start(room.take<int32_t>(T::kWeightShift != 0 ? panels * kColumns * blocks : 0)),
        log_scale(room.take<float>(keys)),
        reciprocal(room.take<float>(keys)),
        row_offset(room.take<float>(keys)),
        bias(room.take<float>(keys)),
        row_top(room.take<float>(blocks)),
        key_top(room.take<float>(1)),
        queries(room.take<Codes>(steps)),
        weights(room.take<Codes>(blocks * kBlockSteps)),
        greatest(room.take<V>(blocks)),
        sums(room.take<V>(blocks)),
        skipped(room.take<bool>(blocks)),
        scores(room.take<V>(2 * kBlock)),
        offsets(room.take<V>(kBlock)),
        results(room.take<V>(panels * kColumns)),
        rows(room.take<Code>(std::max(kLanes, kColumns) * steps * T::kGroup)) {}
};

}  // namespace
}  // namespace qfx::attention
