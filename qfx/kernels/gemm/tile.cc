#include "gemm/tile.h"

#include <iterator>

#include "core/split.h"

namespace qfx::gemm {
namespace {

constexpr TileKernel kKernels[] = {
#define QFX_GEMM(name, isa, rows, columns, depth, bytes) {#name, Isa::isa, rows, columns, depth, bytes, 0, name},
#define QFX_GEMM_S8(name, isa, rows, columns, depth) {#name, Isa::isa, rows, columns, depth, 1, 128, name},
#define QFX_GEMM_PAIRED(name, isa, rows, columns) {#name, Isa::isa, rows, columns, 4, 1, 0, name, Packing::paired},
#define QFX_GEMM_STREAMS(name, isa, rows, columns) \
  {#name, Isa::isa, rows, columns, 4, 1, 0, name, Packing::steps, name##_streams},
#include "gemm/kernels.inc"
    {"", Isa::scalar, 0, 0, 0, 0, 0, nullptr},
};

}  // namespace

std::span<const TileKernel> kernels() noexcept {
  return {kKernels, std::size(kKernels) - 1};
}

int64_t TileKernel::step_multiple() const noexcept {
  return isa == Isa::amx ? kTileSteps : 1;
}

int64_t TileKernel::steps(int64_t length) const noexcept {
  const int64_t whole = depth * step_multiple();
  return ceil_div(length, whole) * step_multiple();
}

const TileKernel& kernel_for(const TileKernel& main, std::span<const TileKernel> kernels, int64_t columns) {
  const TileKernel* best = &main;
  for (const TileKernel& k : kernels) {
    const bool same = k.isa == main.isa && k.depth == main.depth && k.bytes == main.bytes && k.shift == main.shift &&
                      k.packing == main.packing && k.rows >= main.rows;
    if (same && k.columns >= columns && k.columns < best->columns) best = &k;
  }
  return *best;
}

}  // namespace qfx::gemm
