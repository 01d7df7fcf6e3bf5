#include "kernel_models.h"

#include <cstring>
#include <map>

#include "core/kernels_of_level.h"

namespace qfx::gemm::model {

#define QFX_GEMM(name, isa, rows, columns, depth, bytes) QFX_IF_MODELED_##isa(TileFn name;)
#include "gemm/kernels.inc"

}  // namespace qfx::gemm::model

namespace qfx::conv::model {

#define QFX_CONV_DEPTHWISE(name, isa, pixels, channels) \
  QFX_IF_MODELED_##isa(DepthwiseFn name; InterleaveFn name##_interleave;)
#include "conv/kernels.inc"

}  // namespace qfx::conv::model

namespace qfx::attention::model {

#define QFX_KERNEL(kind, name, isa) QFX_IF_MODELED_##isa(kind::Fn name;)
#include "attention/kernels.inc"
#undef QFX_KERNEL

}  // namespace qfx::attention::model

namespace qfx::test {
namespace {

// Replaces what the kernels of one name call.
void use_models(std::vector<gemm::TileKernel>& kernels) {
  [[maybe_unused]] const auto use = [&](const char* name, gemm::TileFn* run) {
    for (gemm::TileKernel& k : kernels)
      if (std::strcmp(k.name, name) == 0 && runs_on(k.isa) == RunsOn::model) k.run = run;
  };
#define QFX_GEMM(name, isa, rows, columns, depth, bytes) QFX_IF_MODELED_##isa(use(#name, gemm::model::name);)
#include "gemm/kernels.inc"
}

void use_models(std::vector<conv::DepthwiseKernel>& kernels) {
  [[maybe_unused]] const auto use = [&](const char* name, conv::DepthwiseFn* run, conv::InterleaveFn* interleave) {
    for (conv::DepthwiseKernel& k : kernels)
      if (std::strcmp(k.name, name) == 0 && runs_on(k.isa) == RunsOn::model) k.run = run, k.interleave = interleave;
  };
#define QFX_CONV_DEPTHWISE(name, isa, pixels, channels) \
  QFX_IF_MODELED_##isa(use(#name, conv::model::name, conv::model::name##_interleave);)
#include "conv/kernels.inc"
}

void use_models(std::vector<Kernel<attention::Attend>>& kernels) {
  [[maybe_unused]] const auto use = [&](const char* name, attention::Attend::Fn* run) {
    for (auto& k : kernels)
      if (std::strcmp(k.name, name) == 0 && runs_on(k.isa) == RunsOn::model) k.run = run;
  };
#define QFX_KERNEL(kind, name, isa) QFX_IF_MODELED_##isa(use(#name, attention::model::name);)
#include "attention/kernels.inc"
#undef QFX_KERNEL
}

template <class Kernel>
std::vector<Kernel> with_models(std::span<const Kernel> kernels) {
  std::vector<Kernel> list(kernels.begin(), kernels.end());
  use_models(list);
  return list;
}

}  // namespace

// Level avxvnni runs on AVX512-VNNI's encoding of its instruction, amx on tile_model.h, its epilogues as they are.
// isa.inc says on which hardware.
RunsOn runs_on(Isa isa) noexcept {
  static const auto levels = [] {
    std::map<Isa, RunsOn> found;
    for (const Isa level : isa_levels()) found[level] = supported(level) ? RunsOn::hardware : RunsOn::nowhere;
    for (auto& [level, where] : found) {
      const Isa model = isa_of_model(level);
      if (where == RunsOn::nowhere && model != Isa::scalar && supported(model)) where = RunsOn::model;
    }
    return found;
  }();
  const auto at = levels.find(isa);
  return at == levels.end() ? RunsOn::nowhere : at->second;
}

std::span<const gemm::TileKernel> runnable_gemm_kernels() {
  static const auto kernels = with_models(gemm::kernels());
  return kernels;
}

std::span<const conv::DepthwiseKernel> runnable_depthwise_kernels() {
  static const auto kernels = with_models(conv::depthwise_kernels());
  return kernels;
}

std::span<const Kernel<attention::Attend>> runnable_attention_kernels() {
  constexpr Kernel<attention::Attend> kAll[] = {
#define QFX_KERNEL(kind, name, isa) {attention::name, #name, Isa::isa},
#include "attention/kernels.inc"
#undef QFX_KERNEL
  };
  static const auto kernels = with_models(std::span<const Kernel<attention::Attend>>(kAll));
  return kernels;
}

std::vector<std::string> model_kernels() {
  std::vector<std::string> names;
  for (const auto& kernel : gemm::kernels())
    if (runs_on(kernel.isa) == RunsOn::model) names.push_back(kernel.name);
  for (const auto& kernel : conv::depthwise_kernels())
    if (runs_on(kernel.isa) == RunsOn::model) names.push_back(kernel.name);
  for (const auto& kernel : runnable_attention_kernels())
    if (runs_on(kernel.isa) == RunsOn::model) names.push_back(kernel.name);
  return names;
}

}  // namespace qfx::test
