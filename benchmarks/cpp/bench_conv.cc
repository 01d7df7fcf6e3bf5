// GMAC/s of the convolution kernels on the shapes of common networks, one thread, fused requantization to u8.
//   bench_conv             the kernel that selection picks for this CPU
//   bench_conv --all       every kernel that applies to a shape
//   bench_conv TEXT        only shapes whose name contains TEXT (also after --all)
//   bench_conv --selection for each shape on standard input, a line "images size c_in c_out kernel stride groups
//                          residual": the picked kernel, its microseconds, the fastest candidate, its microseconds
#include <time.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "conv/conv.h"
#include "conv/depthwise.h"
#include "conv/implicit_gemm.h"
#include "conv/problem.h"

namespace {

using namespace qfx;

struct Shape {
  const char* name;
  int64_t images, size, c_in, c_out, kernel, stride, groups;
  bool residual;
};

constexpr Shape kShapes[] = {
    {"gemm 3136,64,256", 1, 56, 64, 256, 1, 1, 1, false},
    {"gemm 3136,64,256 +residual", 1, 56, 64, 256, 1, 1, 1, true},
    {"gemm 3136,256,64", 1, 56, 256, 64, 1, 1, 1, false},
    {"gemm 784,512,128", 1, 28, 512, 128, 1, 1, 1, false},
    {"gemm 784,128,512 +residual", 1, 28, 128, 512, 1, 1, 1, true},
    {"gemm 196,1024,256", 1, 14, 1024, 256, 1, 1, 1, false},
    {"gemm 196,256,1024 +residual", 1, 14, 256, 1024, 1, 1, 1, true},
    {"gemm 49,2048,512", 1, 7, 2048, 512, 1, 1, 1, false},
    {"gemm 49,512,2048 +residual", 1, 7, 512, 2048, 1, 1, 1, true},
    {"gemm 56,512,1024 stride 2", 1, 28, 512, 1024, 1, 2, 1, false},
    {"gemm 12544,32,16", 1, 112, 32, 16, 1, 1, 1, false},
    {"gemm 12544,16,96", 1, 112, 16, 96, 1, 1, 1, false},
    {"gemm 3136,96,24", 1, 56, 96, 24, 1, 1, 1, false},
    {"gemm 784,240,40", 1, 28, 240, 40, 1, 1, 1, false},
    {"gemm 3136,24,72", 1, 56, 24, 72, 1, 1, 1, false},
    {"gemm 3136,24,144", 1, 56, 24, 144, 1, 1, 1, false},
    {"gemm 3136,144,24 +residual", 1, 56, 144, 24, 1, 1, 1, true},
    {"gemm 784,32,192", 1, 28, 32, 192, 1, 1, 1, false},
    {"gemm 784,192,32", 1, 28, 192, 32, 1, 1, 1, false},
    {"gemm 196,64,384", 1, 14, 64, 384, 1, 1, 1, false},
    {"gemm 196,384,64 +residual", 1, 14, 384, 64, 1, 1, 1, true},
    {"gemm 196,576,96", 1, 14, 576, 96, 1, 1, 1, false},
    {"gemm 49,160,960", 1, 7, 160, 960, 1, 1, 1, false},
    {"gemm 49,960,160 +residual", 1, 7, 960, 160, 1, 1, 1, true},
    {"gemm 49,320,1280", 1, 7, 320, 1280, 1, 1, 1, false},
    {"gemm 128,384,1536", 128, 1, 384, 1536, 1, 1, 1, false},
    {"gemm 128,1536,384", 128, 1, 1536, 384, 1, 1, 1, false},
    {"gemm 16,2048,1000", 16, 1, 2048, 1000, 1, 1, 1, false},
    {"gemm 1,2048,1000", 1, 1, 2048, 1000, 1, 1, 1, false},
    {"gemm 1,1280,1000", 1, 1, 1280, 1000, 1, 1, 1, false},
    {"gemm 1,1024,4096", 1, 1, 1024, 4096, 1, 1, 1, false},
    {"gemm 1,4096,4096", 1, 1, 4096, 4096, 1, 1, 1, false},
    {"conv 224 3>64 7x7 s2", 1, 224, 3, 64, 7, 2, 1, false},
    {"conv 224 3>32 3x3 s2", 1, 224, 3, 32, 3, 2, 1, false},
    {"conv 56 64>64", 1, 56, 64, 64, 3, 1, 1, false},
    {"conv 28 128>128", 1, 28, 128, 128, 3, 1, 1, false},
    {"conv 14 256>256", 1, 14, 256, 256, 3, 1, 1, false},
    {"conv 7 512>512", 1, 7, 512, 512, 3, 1, 1, false},
    {"conv 7 512>512 x16", 16, 7, 512, 512, 3, 1, 1, false},
    {"conv 56 128>128 s2", 1, 56, 128, 128, 3, 2, 1, false},
    {"depthwise 112 32", 1, 112, 32, 32, 3, 1, 32, false},
    {"depthwise 112 96 s2", 1, 112, 96, 96, 3, 2, 96, false},
    {"depthwise 56 144", 1, 56, 144, 144, 3, 1, 144, false},
    {"depthwise 56 144 s2", 1, 56, 144, 144, 3, 2, 144, false},
    {"depthwise 28 192", 1, 28, 192, 192, 3, 1, 192, false},
    {"depthwise 28 192 s2", 1, 28, 192, 192, 3, 2, 192, false},
    {"depthwise 14 384", 1, 14, 384, 384, 3, 1, 384, false},
    {"depthwise 14 576 s2", 1, 14, 576, 576, 3, 2, 576, false},
    {"depthwise 7 960", 1, 7, 960, 960, 3, 1, 960, false},
    {"depthwise 28 240 5x5", 1, 28, 240, 240, 5, 1, 240, false},
    {"depthwise 56 144 5x5 s2", 1, 56, 144, 144, 5, 2, 144, false},
    {"depthwise 14 672 5x5", 1, 14, 672, 672, 5, 1, 672, false},
    {"depthwise 56 96 7x7", 1, 56, 96, 96, 7, 1, 96, false},
    {"depthwise 112 3", 1, 112, 3, 3, 3, 1, 3, false},
    {"depthwise 112 8", 1, 112, 8, 8, 3, 1, 8, false},
    {"affine 56 64", 1, 56, 64, 64, 1, 1, 64, false},
    {"affine 56 24", 1, 56, 24, 24, 1, 1, 24, false},
    {"grouped 56 48/8", 1, 56, 48, 48, 3, 1, 6, false},
    {"grouped 28 128/16", 1, 28, 128, 128, 3, 1, 8, false},
    {"grouped 28 120/24", 1, 28, 120, 120, 3, 1, 5, false},
    {"grouped 14 320/16", 1, 14, 320, 320, 3, 1, 20, false},
    {"grouped 14 448/64", 1, 14, 448, 448, 3, 1, 7, false},
    {"grouped 56 128/4", 1, 56, 128, 128, 3, 1, 32, false},
};

struct Case {
  ConvGeometry geometry;
  ConvQuant quant;
  ConvShape shape;
  std::vector<int8_t> weight;
  std::vector<int32_t> bias;
  std::vector<float> multiplier;
};

// Weights of one output channel as quantizing makes them of normal ones: kernels may depend on how they are spread.
void add_channel(std::vector<int8_t>& to, int64_t count) {
  std::vector<float> normal(static_cast<size_t>(count));
  float largest = 0.0f;
  for (float& v : normal) {
    for (int i = 0; i < 12; ++i) v += static_cast<float>(std::rand()) / static_cast<float>(RAND_MAX) - 0.5f;
    largest = std::max(largest, std::abs(v));
  }
  for (const float v : normal) to.push_back(static_cast<int8_t>(std::lrint(127.0f * v / largest)));
}

Case make_case(const Shape& s) {
  Case c;
  c.geometry.linear = s.size == 0;
  c.geometry.groups = s.groups;
  c.geometry.c_in = s.c_in;
  c.geometry.c_out = s.c_out;
  c.shape.n = s.images;
  c.shape.x_pixel_stride = s.c_in;
  c.shape.y_pixel_stride = s.c_out;
  for (int d = 1; d < 3; ++d) {
    c.geometry.kernel[d] = s.kernel;
    c.geometry.stride[d] = s.stride;
    c.geometry.pad_lo[d] = c.geometry.pad_hi[d] = s.kernel / 2;
    c.shape.in[d] = std::max<int64_t>(s.size, 1);
    c.shape.out[d] = (c.shape.in[d] + 2 * (s.kernel / 2) - s.kernel) / s.stride + 1;
  }
  c.quant.residual = s.residual;
  c.quant.residual_multiplier = 0.5f;
  c.quant.x_zero_point = 7;
  const int64_t reduction = s.kernel * s.kernel * (s.c_in / s.groups);
  for (int64_t o = 0; o < s.c_out; ++o) add_channel(c.weight, reduction);
  c.bias.assign(static_cast<size_t>(s.c_out), 1000);
  c.multiplier.assign(static_cast<size_t>(s.c_out), 0.001f);
  return c;
}

// Of this thread alone: other processes' time slices do not count.
double cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

size_t lines_of(size_t bytes) {
  return (bytes + 63) / 64 * 64;
}

constexpr double kTimed = 20e-6;  // seconds at least between two looks at the clock

// The least of some calls, in microseconds: at least `fewest`, and more while they take less than `seconds`.
double microseconds(const Work& work, const Case& c, double seconds_each = 0.03, int fewest = 5) {
  const auto bytes = [](const int64_t (&extent)[3], int64_t n, int64_t channels) {
    return static_cast<size_t>(n * extent[0] * extent[1] * extent[2] * channels);
  };
  // In one arena, each from a cache line on, as in the runtime's.
  const size_t x_bytes = lines_of(bytes(c.shape.in, c.shape.n, c.geometry.c_in) + 64);
  const size_t y_bytes = lines_of(bytes(c.shape.out, c.shape.n, c.geometry.c_out));
  const auto allocate = [](size_t n) {
    return std::unique_ptr<std::byte, decltype(&std::free)>(static_cast<std::byte*>(std::aligned_alloc(64, n)),
                                                            &std::free);
  };
  const auto arena = allocate(x_bytes + 2 * y_bytes);
  std::memset(arena.get(), 100, x_bytes + 2 * y_bytes);
  const auto scratch = allocate(lines_of(work.scratch_bytes() + 64));
  const void* in[] = {arena.get(), arena.get() + x_bytes + y_bytes};
  void* out[] = {arena.get() + x_bytes};
  double best = 1e30;
  double total = 0;
  int calls = 1;  // between two looks at the clock, which take as long as a call of a small layer
  for (int i = 0; i < 400 && (total < seconds_each || i < fewest); ++i) {
    const double start = cpu_seconds();
    for (int call = 0; call < calls; ++call) work.run(in, out, scratch.get(), 0, 1);
    const double seconds = cpu_seconds() - start;
    best = std::min(best, seconds / calls);
    total += seconds;
    if (i == 0) calls = std::clamp(static_cast<int>(kTimed / seconds), 1, 64);
  }
  return best * 1e6;
}

void report(const Shape& s, const Case& c, const PackedConv& packed) {
  const auto work = packed.plan(c.shape);
  const double us = microseconds(*work, c);
  const double macs =
      static_cast<double>(c.shape.n * c.shape.out[1] * c.shape.out[2]) * static_cast<double>(c.weight.size());
  std::printf("%-30s %9.1f us %7.1f GMAC/s  %s\n", s.name, us, macs / us * 1e-3, work->describe().c_str());
}

void report_all(const Shape& s, const Case& c, const ConvConstants& constants) {
  const auto problem = [&] { return conv::make_problem(c.geometry, c.quant, constants); };
  for (const auto& kernel : gemm::kernels()) {
    if (includes(selected_isa(), kernel.isa)) report(s, c, *conv::pack_implicit_gemm(kernel, problem()));
  }
  for (const auto& kernel : conv::depthwise_kernels()) {
    if (includes(selected_isa(), kernel.isa) && conv::applies(kernel, problem()))
      report(s, c, *conv::pack_depthwise(kernel, problem()));
  }
}

struct Candidate {
  std::string kernel;
  std::unique_ptr<PackedConv> packed;
  std::unique_ptr<Work> work;
  double us = 1e30;
};

std::string kernel_name(const Work& work) {
  std::string text;
  for (const char* name : work.kernels()) text += (text.empty() ? "" : " + ") + std::string(name);
  return text;
}

// Every kernel that applies, each once.
std::vector<Candidate> candidates(const Case& c, const ConvConstants& constants) {
  std::vector<Candidate> all;
  const auto problem = [&] { return conv::make_problem(c.geometry, c.quant, constants); };
  const auto add = [&](std::unique_ptr<PackedConv> packed) {
    auto work = packed->plan(c.shape);
    all.push_back({kernel_name(*work), std::move(packed), std::move(work)});
  };
  for (const auto& kernel : gemm::kernels()) {
    if (includes(selected_isa(), kernel.isa)) add(conv::pack_implicit_gemm(kernel, problem()));
  }
  for (const auto& kernel : conv::depthwise_kernels()) {
    if (includes(selected_isa(), kernel.isa) && conv::applies(kernel, problem())) {
      add(conv::pack_depthwise(kernel, problem()));
    }
  }
  return all;
}

// Candidates take turns, so that the clock's drift meets all of them; those that one call shows to be far off have no
// more than that one.
void report_selection(const Shape& s, const Case& c) {
  constexpr int kRounds = 5;
  constexpr double kSeconds = 0.004, kFarOff = 2.0;
  const ConvConstants constants{c.weight, {}, c.bias, c.multiplier, {}};
  std::vector<Candidate> all = candidates(c, constants);
  const std::string picked = kernel_name(*pack_conv(c.geometry, c.quant, constants, selected_isa())->plan(c.shape));
  const auto faster = [](const Candidate& a, const Candidate& b) { return a.us < b.us; };
  for (Candidate& k : all) k.us = microseconds(*k.work, c, 0.0, 2);
  const double limit = kFarOff * std::min_element(all.begin(), all.end(), faster)->us;
  for (int round = 0; round < kRounds; ++round) {
    for (Candidate& k : all) {
      if (k.us < limit || k.kernel == picked) k.us = std::min(k.us, microseconds(*k.work, c, kSeconds, 3));
    }
  }
  const auto best = std::min_element(all.begin(), all.end(), faster);
  const auto ours = std::find_if(all.begin(), all.end(), [&](const Candidate& k) { return k.kernel == picked; });
  std::printf("%s\t%s\t%.3f\t%s\t%.3f\n", s.name, picked.c_str(), ours == all.end() ? -1.0 : ours->us,
              best->kernel.c_str(), best->us);
}

int report_selections() {
  for (std::string line; std::getline(std::cin, line);) {
    Shape s{line.c_str(), 0, 0, 0, 0, 0, 0, 0, false};
    int residual = 0;
    if (std::sscanf(line.c_str(), "%ld %ld %ld %ld %ld %ld %ld %d", &s.images, &s.size, &s.c_in, &s.c_out, &s.kernel,
                    &s.stride, &s.groups, &residual) != 8) {
      std::fprintf(stderr, "not a shape: %s\n", line.c_str());
      return 1;
    }
    s.residual = residual != 0;
    report_selection(s, make_case(s));
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::strcmp(argv[1], "--selection") == 0) return report_selections();
  const bool all = argc > 1 && std::strcmp(argv[1], "--all") == 0;
  const char* filter = argc > (all ? 2 : 1) ? argv[all ? 2 : 1] : "";
  std::printf("%s, ISA %s\n", cpu_description().c_str(), isa_name(selected_isa()));
  for (const Shape& s : kShapes) {
    if (std::strstr(s.name, filter) == nullptr) continue;
    const Case c = make_case(s);
    const ConvConstants constants{c.weight, {}, c.bias, c.multiplier, {}};
    if (all) report_all(s, c, constants);
    report(s, c, *pack_conv(c.geometry, c.quant, constants, selected_isa()));
  }
}
