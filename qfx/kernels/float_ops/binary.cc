#include <stdexcept>

#include "core/nest.h"
#include "float_ops/float_ops.h"

namespace qfx {
namespace {

template <FloatBinaryOp op>
float applied(float a, float b) noexcept {
  switch (op) {
    case FloatBinaryOp::add:
      return a + b;
    case FloatBinaryOp::sub:
      return a - b;
    case FloatBinaryOp::mul:
      return a * b;
    case FloatBinaryOp::div:
      return a / b;
  }
}

template <FloatBinaryOp op>
class FloatBinaryWork final : public Work {
 public:
  explicit FloatBinaryWork(Nest<2> nest) : row_(nest.pop()), outer_(nest) {}

  void run(const void* const* in, void* const* out, std::byte*, int tid, int threads) const noexcept override {
    const auto* a = static_cast<const float*>(in[0]);
    const auto* b = static_cast<const float*>(in[1]);
    auto* y = static_cast<float*>(out[0]);
    const Range part = split(outer_.count() * row_.size, tid, threads, 16);
    for_each_row(part, outer_, row_.size, [&](const int64_t* offset, int64_t row, int64_t column, int64_t n) {
      run_row(a + offset[0] + column * row_.stride[0], b + offset[1] + column * row_.stride[1],
              y + row * row_.size + column, n);
    });
  }

  int64_t cost() const noexcept override { return 12 * outer_.count() * row_.size; }
  std::string details() const override { return "binary_f32"; }

 private:
  // The innermost strides are 0 or 1, and not both 0 in a row longer than 1.
  void run_row(const float* a, const float* b, float* y, int64_t n) const noexcept {
    if (row_.stride[0] == row_.stride[1])
      for (int64_t i = 0; i < n; ++i) y[i] = applied<op>(a[i], b[i]);
    else if (row_.stride[0] == 0)
      for (int64_t i = 0; i < n; ++i) y[i] = applied<op>(*a, b[i]);
    else
      for (int64_t i = 0; i < n; ++i) y[i] = applied<op>(a[i], *b);
  }

  Nest<2>::Loop row_;
  Nest<2> outer_;
};

}  // namespace

std::unique_ptr<Work> plan_binary_f32(FloatBinaryOp op, const std::vector<int64_t>& a, const std::vector<int64_t>& b) {
  if (a.size() != b.size()) throw std::invalid_argument("operands of different rank");
  std::vector<int64_t> shape(a.size());
  std::vector<int64_t> strides[] = {dense_strides(a), dense_strides(b)};
  for (size_t d = 0; d < a.size(); ++d) {
    if (a[d] != b[d] && a[d] != 1 && b[d] != 1) throw std::invalid_argument("shapes that do not broadcast");
    shape[d] = a[d] == 1 ? b[d] : a[d];
    if (a[d] == 1) strides[0][d] = 0;
    if (b[d] == 1) strides[1][d] = 0;
  }
  element_count(shape);
  const Nest<2> nest = collapse(shape, strides);
  switch (op) {
    case FloatBinaryOp::add:
      return std::make_unique<FloatBinaryWork<FloatBinaryOp::add>>(nest);
    case FloatBinaryOp::sub:
      return std::make_unique<FloatBinaryWork<FloatBinaryOp::sub>>(nest);
    case FloatBinaryOp::mul:
      return std::make_unique<FloatBinaryWork<FloatBinaryOp::mul>>(nest);
    case FloatBinaryOp::div:
      return std::make_unique<FloatBinaryWork<FloatBinaryOp::div>>(nest);
  }
  throw std::invalid_argument("an unknown operation");
}

}  // namespace qfx
