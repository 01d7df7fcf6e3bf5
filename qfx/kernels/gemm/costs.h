#pragma once
#include <cstdint>

#include "gemm/tile.h"

namespace qfx::gemm {

// What a level's kernels cost, in dot products of one of their vectors.
struct VectorCosts {
  int lanes;             // columns of a vector
  double finish[5];      // a row of so many vectors
  double pair_step;      // a vector and a half, where two rows share the third vector: a step,
  double pair_finish;    // and a row; 0: there are no such kernels
  double words_step;     // a step of words, where those of bytes take 1
  double paired_finish;  // a vector of a row, of what steps cost that find no partner (pairing.h)
  bool two_loads;        // a cycle, and as many dot products: activations of a row, weights of a column of a tile
};

// Tiles of 16 pixels by 16 columns, for one pixel, in the same unit.
struct TileCosts {
  int64_t depth;  // of one step
  double step;    // the dot products that it takes the time of, with the loads of its operands
  double store;   // sums pass through memory to their epilogue
  double block;   // which waits for its first loads
};

// A single row has a panel's vectors to overlap its dot products with and no more: its share in the cost where it is
// seldom (convolutions of one tap, few of which are of one pixel: squeeze and excite) and where it is often (linear
// layers, of which batch 1 is the usual one).
struct RowCosts {
  double seldom;
  double often;
};

// A row for the kernels of a level, and of those that extend it and have none. `run` tells how far the choice that they
// lead to is from the fastest kernel on that CPU.
struct Costs {
  Isa level;
  const char* cpu;
  const char* run;
  VectorCosts vector;
  TileCosts tile;  // depth 0: its kernels have no tiles
  RowCosts row;
};

constexpr const char* kSelectionRun = "python -m benchmarks.bench --parts selection";
constexpr VectorCosts kZmm{16, {0.0, 6.0, 8.0, 12.5, 12.0}, 1.6, 7.0, 0.0, 0.0, false};
constexpr RowCosts kRow{0.07, 0.2};

constexpr Costs kCosts[] = {
    {Isa::scalar,
     "Zen 4, QFX_ISA=avx2",
     kSelectionRun,
     {8, {0.0, 6.0, 12.0, 18.0, 24.0}, 0.0, 0.0, 1.25, 3.0, true},
     {},
     kRow},
    {Isa::avx512vnni, "Zen 4", kSelectionRun, kZmm, {}, kRow},
    {Isa::amx, "estimated: nobody has measured one", "", kZmm, {4 * kTileSteps, 4.0, 3.0, 3.0}, kRow},
};

inline const Costs& costs_of(Isa isa) noexcept {
  const Costs* found = kCosts;
  for (const Costs& row : kCosts)
    if (includes(isa, row.level)) found = &row;
  return *found;
}

}  // namespace qfx::gemm
