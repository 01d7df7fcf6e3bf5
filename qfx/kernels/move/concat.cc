#include <algorithm>
#include <stdexcept>

#include "core/bytes.h"
#include "core/split.h"
#include "move/move.h"

namespace qfx {
namespace {

class ConcatWork final : public Work {
 public:
  ConcatWork(int64_t outer, std::vector<int64_t> bytes, std::vector<char> placed)
      : outer_(outer), bytes_(std::move(bytes)), placed_(std::move(placed)) {
    placed_.resize(bytes_.size());
    for (size_t k = 0; k < bytes_.size(); ++k) {
      row_ += bytes_[k];
      if (!placed_[k]) copied_ += bytes_[k];
    }
  }

  // Parts are byte ranges of y, so that one long row divides as well as many short ones.
  void run(const void* const* in, void* const* out, std::byte*, int tid, int threads) const noexcept override {
    auto* y = static_cast<std::byte*>(out[0]);
    const Range part = split(outer_ * row_, tid, threads, 64);
    if (part.begin >= part.end) return;
    const int64_t first = part.begin / row_, last = (part.end - 1) / row_;
    int64_t at = 0;
    for (size_t k = 0; k < bytes_.size(); at += bytes_[k++]) {
      if (placed_[k]) continue;
      const auto* x = static_cast<const std::byte*>(in[k]);
      const int64_t n = bytes_[k];
      for (int64_t row = first; row <= last; ++row) {
        const int64_t begin = std::max(row * row_ + at, part.begin), end = std::min(row * row_ + at + n, part.end);
        if (begin < end) copy_bytes(y + begin, x + row * n + (begin - row * row_ - at), end - begin);
      }
    }
  }

  int64_t cost() const noexcept override { return 2 * outer_ * copied_; }
  std::string details() const override {
    const auto there = std::count(placed_.begin(), placed_.end(), 1);
    return "concat of " + std::to_string(bytes_.size()) + (there > 0 ? ", " + std::to_string(there) + " in place" : "");
  }

 private:
  int64_t outer_;
  std::vector<int64_t> bytes_;
  std::vector<char> placed_;
  int64_t row_ = 0, copied_ = 0;
};

}  // namespace

std::unique_ptr<Work> plan_concat(int64_t outer, const std::vector<int64_t>& inner, int element_size, Isa,
                                  const std::vector<char>& placed) {
  if (outer < 0 || element_size < 1) throw std::invalid_argument("a negative dimension");
  std::vector<int64_t> bytes;
  for (int64_t n : inner) {
    if (n < 0) throw std::invalid_argument("a negative dimension");
    bytes.push_back(n * element_size);
  }
  return std::make_unique<ConcatWork>(outer, std::move(bytes), placed);
}

}  // namespace qfx
