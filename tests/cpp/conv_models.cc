#include "conv_models.h"

#include <cstring>
#include <map>

#include "core/only.h"

#if defined(__x86_64__)
#undef QFX_IF_avxvnni
#define QFX_IF_avxvnni(...) __VA_ARGS__
#undef QFX_IF_amx
#define QFX_IF_amx(...) __VA_ARGS__
#endif

namespace qfx::conv::model {

#define QFX_CONV_GEMM(name, isa, rows, columns, depth, bytes) QFX_IF_##isa(GemmFn name;)
#define QFX_CONV_DEPTHWISE(name, isa, pixels, channels) QFX_IF_##isa(DepthwiseFn name; InterleaveFn name##_interleave;)
#include "conv/kernels.inc"

}  // namespace qfx::conv::model

namespace qfx::test {
namespace {

// Replaces what the kernels of one name call.
void use_models(std::vector<conv::GemmKernel>& kernels) {
  [[maybe_unused]] const auto use = [&](const char* name, conv::GemmFn* run) {
    for (conv::GemmKernel& k : kernels)
      if (std::strcmp(k.name, name) == 0 && runs_on(k.isa) == RunsOn::model) k.run = run;
  };
#define QFX_CONV_GEMM(name, isa, rows, columns, depth, bytes) QFX_IF_##isa(use(#name, conv::model::name);)
#include "conv/kernels.inc"
}

void use_models(std::vector<conv::DepthwiseKernel>& kernels) {
  [[maybe_unused]] const auto use = [&](const char* name, conv::DepthwiseFn* run, conv::InterleaveFn* interleave) {
    for (conv::DepthwiseKernel& k : kernels)
      if (std::strcmp(k.name, name) == 0 && runs_on(k.isa) == RunsOn::model) k.run = run, k.interleave = interleave;
  };
#define QFX_CONV_DEPTHWISE(name, isa, pixels, channels) \
  QFX_IF_##isa(use(#name, conv::model::name, conv::model::name##_interleave);)
#include "conv/kernels.inc"
}

template <class Kernel>
std::vector<Kernel> with_models(std::span<const Kernel> kernels) {
  std::vector<Kernel> list(kernels.begin(), kernels.end());
  use_models(list);
  return list;
}

}  // namespace

// Level avxvnni runs on AVX512-VNNI's encoding of its instruction, amx on tile_model.h, its epilogues as they are.
RunsOn runs_on(Isa isa) noexcept {
  static const auto levels = [] {
    std::map<Isa, RunsOn> found;
    for (const Isa level : isa_levels()) found[level] = supported(level) ? RunsOn::hardware : RunsOn::nowhere;
    for (const Isa level : {Isa::avxvnni, Isa::amx}) {
      const bool modeled = found.contains(level) && found[Isa::avx512vnni] == RunsOn::hardware;
      if (modeled && found[level] == RunsOn::nowhere) found[level] = RunsOn::model;
    }
    return found;
  }();
  const auto at = levels.find(isa);
  return at == levels.end() ? RunsOn::nowhere : at->second;
}

std::span<const conv::GemmKernel> runnable_gemm_kernels() {
  static const auto kernels = with_models(conv::gemm_kernels());
  return kernels;
}

std::span<const conv::DepthwiseKernel> runnable_depthwise_kernels() {
  static const auto kernels = with_models(conv::depthwise_kernels());
  return kernels;
}

std::vector<std::string> model_kernels() {
  std::vector<std::string> names;
  for (const auto& kernel : conv::gemm_kernels())
    if (runs_on(kernel.isa) == RunsOn::model) names.push_back(kernel.name);
  for (const auto& kernel : conv::depthwise_kernels())
    if (runs_on(kernel.isa) == RunsOn::model) names.push_back(kernel.name);
  return names;
}

}  // namespace qfx::test
