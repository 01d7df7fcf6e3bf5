#include <algorithm>
#include <stdexcept>

#include "core/nest.h"
#include "float_ops/float_ops.h"

namespace qfx {
namespace {

constexpr int64_t kColumns = 64;

class MatmulWork final : public Work {
 public:
  MatmulWork(int64_t batch, int64_t m, int64_t k, int64_t n) : batch_(batch), m_(m), k_(k), n_(n) {}

  void run(const void* const* in, void* const* out, std::byte*, int tid, int threads) const noexcept override {
    const auto* a = static_cast<const float*>(in[0]);
    const auto* b = static_cast<const float*>(in[1]);
    auto* y = static_cast<float*>(out[0]);
    for_each_row(split(batch_ * m_ * n_, tid, threads, 16), n_, [&](int64_t row, int64_t first, int64_t columns) {
      for (int64_t j = first; j < first + columns; j += kColumns)
        run_block(a + row * k_, b + row / m_ * k_ * n_ + j, y + row * n_ + j, std::min(kColumns, first + columns - j));
    });
  }

  int64_t cost() const noexcept override { return batch_ * m_ * n_ * k_; }
  std::string details() const override { return "matmul_f32"; }

 private:
  void run_block(const float* a, const float* b, float* y, int64_t columns) const noexcept {
    float sum[kColumns] = {};
    for (int64_t p = 0; p < k_; ++p)
      for (int64_t j = 0; j < columns; ++j) sum[j] += a[p] * b[p * n_ + j];
    std::copy(sum, sum + columns, y);
  }

  int64_t batch_, m_, k_, n_;
};

}  // namespace

std::unique_ptr<Work> plan_matmul_f32(int64_t batch, int64_t m, int64_t k, int64_t n) {
  if (batch < 0 || m < 0 || k < 0 || n < 0) throw std::invalid_argument("a negative dimension");
  return std::make_unique<MatmulWork>(batch, m, k, n);
}

}  // namespace qfx
