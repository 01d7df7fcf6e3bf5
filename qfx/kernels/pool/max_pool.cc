#include "pool/windows.h"

namespace qfx {
namespace {

using namespace pool;

class MaxPoolWork final : public Work {
 public:
  MaxPoolWork(Windows windows, Isa isa) : windows_(std::move(windows)), kernel_(select<MaxWindow>(isa)) {}

  void run(const void* const* in, void* const* out, std::byte*, int tid, int threads) const noexcept override {
    for_each_window(windows_, static_cast<const uint8_t*>(in[0]), static_cast<uint8_t*>(out[0]), tid, threads,
                    [&](const uint8_t* x, const Window& window, int64_t, uint8_t* y, int64_t channels) {
                      kernel_.run(x, window, channels, y);
                    });
  }

  int64_t cost() const noexcept override {
    return windows_.pixels() * windows_.geometry.channels * (windows_.longest() + 1);
  }
  std::vector<const char*> kernels() const override { return {kernel_.name}; }

 private:
  Windows windows_;
  Kernel<MaxWindow> kernel_;
};

}  // namespace

std::unique_ptr<Work> plan_max_pool(const PoolGeometry& geometry, Isa isa) {
  return std::make_unique<MaxPoolWork>(sliding_windows(geometry), isa);
}

std::unique_ptr<Work> plan_adaptive_max_pool(const PoolGeometry& geometry, Isa isa) {
  return std::make_unique<MaxPoolWork>(adaptive_windows(geometry), isa);
}

}  // namespace qfx
