#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "core/bytes.h"
#include "core/nest.h"
#include "move/move.h"

namespace qfx {
namespace {

// The source index of each output index along one dim; -1: fill.
using Map = std::vector<int64_t>;

int64_t source(int64_t i, int64_t n, PadMode mode) {
  if (i >= 0 && i < n) return i;
  switch (mode) {
    case PadMode::constant:
      return -1;
    case PadMode::reflect:
      return i < 0 ? -i : 2 * (n - 1) - i;
    case PadMode::replicate:
      return i < 0 ? 0 : n - 1;
    case PadMode::circular:
      return i < 0 ? i + n : i - n;
  }
  return -1;
}

Map map_of(int64_t n, int64_t lo, int64_t hi, PadMode mode) {
  if (n < 0 || n + lo + hi < 0) throw std::invalid_argument("padding that crops more than there is");
  const int64_t limit = mode == PadMode::reflect ? n - 1 : (mode == PadMode::circular ? n : INT64_MAX);
  if (mode != PadMode::constant && (lo < 0 || hi < 0)) throw std::invalid_argument("negative padding with a mode");
  if (std::max(lo, hi) > limit) throw std::invalid_argument("reflected or circular padding wider than the input");
  if (mode != PadMode::constant && n == 0 && lo + hi > 0) throw std::invalid_argument("padding of an empty dimension");
  Map map;
  for (int64_t i = 0; i < n + lo + hi; ++i) map.push_back(source(i - lo, n, mode));
  return map;
}

// Output rows along the innermost padded dim; each element of it is a block of `block_` bytes.
class PadWork final : public Work {
 public:
  PadWork(std::vector<Map> outer, Map row, std::vector<int64_t> strides, int64_t block, std::vector<std::byte> fill)
      : outer_(std::move(outer)),
        row_(std::move(row)),
        strides_(std::move(strides)),
        block_(block),
        fill_(std::move(fill)) {
    for (const Map& map : outer_) rows_ *= static_cast<int64_t>(map.size());
  }

  void run(const void* const* in, void* const* out, std::byte*, int tid, int threads) const noexcept override {
    const auto* x = static_cast<const std::byte*>(in[0]);
    auto* y = static_cast<std::byte*>(out[0]);
    const auto width = static_cast<int64_t>(row_.size());
    for_each_row(split(rows_ * width, tid, threads), width, [&](int64_t row, int64_t column, int64_t n) {
      std::byte* to = y + (row * width + column) * block_;
      const int64_t offset = row_offset(row);
      if (offset < 0)
        fill(to, n * block_);
      else
        run_row(x + offset, to, column, column + n);
    });
  }

  int64_t cost() const noexcept override { return 2 * rows_ * static_cast<int64_t>(row_.size()) * block_; }
  std::string details() const override { return "pad"; }

 private:
  // The first byte of x's row for an output row, -1 for one of fill alone.
  int64_t row_offset(int64_t row) const noexcept {
    int64_t offset = 0;
    for (size_t d = outer_.size(); d-- > 0;) {
      const auto size = static_cast<int64_t>(outer_[d].size());
      const int64_t from = outer_[d][static_cast<size_t>(row % size)];
      if (from < 0) return -1;
      offset += from * strides_[d];
      row /= size;
    }
    return offset;
  }

  // Runs of neighbouring sources are one copy.
  void run_row(const std::byte* x, std::byte* y, int64_t begin, int64_t end) const noexcept {
    const int64_t* map = row_.data();
    for (int64_t i = begin; i < end;) {
      int64_t n = 1;
      if (map[i] < 0) {
        while (i + n < end && map[i + n] < 0) ++n;
        fill(y, n * block_);
      } else {
        while (i + n < end && map[i + n] == map[i] + n) ++n;
        copy_bytes(y, x + map[i] * block_, n * block_);
      }
      y += n * block_;
      i += n;
    }
  }

  void fill(std::byte* y, int64_t n) const noexcept {
    if (fill_.size() == 1) {
      std::memset(y, static_cast<int>(fill_[0]), static_cast<size_t>(n));
      return;
    }
    for (int64_t i = 0; i < n; i += static_cast<int64_t>(fill_.size())) std::memcpy(y + i, fill_.data(), fill_.size());
  }

  std::vector<Map> outer_;
  Map row_;
  std::vector<int64_t> strides_;  // bytes, of the outer dims of x
  int64_t block_;
  std::vector<std::byte> fill_;
  int64_t rows_ = 1;
};

}  // namespace

std::unique_ptr<Work> plan_pad(const std::vector<int64_t>& shape, const std::vector<int64_t>& lo,
                               const std::vector<int64_t>& hi, PadMode mode, std::span<const std::byte> fill,
                               int element_size, Isa) {
  if (shape.size() != lo.size() || shape.size() != hi.size())
    throw std::invalid_argument("shape and padding of different rank");
  if (element_size < 1 || (mode == PadMode::constant && fill.size() != static_cast<size_t>(element_size)))
    throw std::invalid_argument("a fill value of another size than the elements");
  size_t padded = shape.size();  // one past the innermost padded dim
  while (padded > 0 && lo[padded - 1] == 0 && hi[padded - 1] == 0) --padded;
  int64_t block = element_size;
  for (size_t d = padded; d < shape.size(); ++d) block *= shape[d];
  if (block < 0) throw std::invalid_argument("a negative dimension");
  std::vector<Map> maps;
  maps.reserve(padded + 1);
  for (size_t d = 0; d < padded; ++d) maps.push_back(map_of(shape[d], lo[d], hi[d], mode));
  if (maps.empty()) maps.push_back({0});
  Map row = std::move(maps.back());
  maps.pop_back();
  std::vector<int64_t> strides(maps.size());
  int64_t stride = block;
  for (size_t d = maps.size(); d-- > 0;) strides[d] = stride *= shape[d + 1];
  return std::make_unique<PadWork>(std::move(maps), std::move(row), std::move(strides), block,
                                   std::vector<std::byte>(fill.begin(), fill.end()));
}

}  // namespace qfx
