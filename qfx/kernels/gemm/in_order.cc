#include "gemm/in_order.h"

namespace qfx::gemm {
namespace {

constexpr InOrderKernel kKernels[] = {
#define QFX_GEMM_IN_ORDER(name, isa, stored) {#name, Isa::isa, Stored::stored, name},
#include "gemm/kernels.inc"
};

}  // namespace

const InOrderKernel& in_order_kernel(Stored stored, Isa isa) noexcept {
  const InOrderKernel* kernel = kKernels;
  while (kernel->stored != stored || !includes(isa, kernel->isa)) ++kernel;  // the last one of each is scalar
  return *kernel;
}

}  // namespace qfx::gemm
