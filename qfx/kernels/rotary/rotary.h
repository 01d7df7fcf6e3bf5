#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "core/isa.h"
#include "core/work.h"

namespace qfx {

struct RotaryProblem {
  std::vector<int64_t> shape;     // of x, which is dense
  std::vector<int64_t> cos, sin;  // the distance of their rows in each dim of x but the last
  int64_t pairs;                  // numbers of a row that are turned, by two; those behind them are copied
  bool interleaved;               // whether a pair's numbers are neighbours, and not half of them apart
  bool shared_cos;                // whether an entry of cos and sin stands for both numbers of a pair
};

// Rotary embedding of f32 rows: see rotary::Halves and rotary::Pairs. Throws std::invalid_argument for more pairs than
// a row has.
std::unique_ptr<Work> plan_rotary(const RotaryProblem& problem, Isa isa);

}  // namespace qfx
