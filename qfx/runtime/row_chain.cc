#include "runtime/row_chain.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "core/aligned.h"

namespace qfx {
namespace {

constexpr int64_t kGroup = 4096;  // floats of the rows that go through all works together

class RowChain final : public Work {
 public:
  RowChain(std::vector<std::unique_ptr<Work>> works, int64_t rows, int64_t width)
      : works_(std::move(works)),
        end_(dynamic_cast<const RowEnd*>(works_.back().get())),
        rows_(rows),
        width_(width),
        group_(std::clamp<int64_t>(kGroup / std::max<int64_t>(width, 1), 1, std::max<int64_t>(rows, 1))) {
    for (size_t i = 0; i + 1 < works_.size(); ++i) maps_.push_back(dynamic_cast<const RowMap*>(works_[i].get()));
  }

  bool is_whole() const noexcept { return end_ != nullptr && std::ranges::count(maps_, nullptr) == 0; }

  void run(const void* const* in, void* const* out, std::byte* scratch, int tid, int threads) const noexcept override {
    auto* room = reinterpret_cast<float*>(scratch);
    const Range part = split(rows_, tid, threads);
    for (int64_t r = part.begin; r < part.end; r += group_) {
      const int64_t n = std::min(group_, part.end - r);
      const float* x = static_cast<const float*>(in[0]) + r * width_;
      for (const RowMap* map : maps_) {
        map->map(x, room, n, width_);
        x = room;
      }
      end_->end(x, out, scratch + room_bytes(), {r, r + n}, width_);
    }
  }

  size_t scratch_bytes() const noexcept override {
    return static_cast<size_t>(room_bytes()) + works_.back()->scratch_bytes();
  }
  int64_t cost() const noexcept override {
    int64_t cost = 0;
    for (const auto& work : works_) cost += work->cost();
    return cost;
  }
  std::vector<const char*> kernels() const override {
    std::vector<const char*> names;
    for (const auto& work : works_)
      for (const char* name : work->kernels())
        if (std::ranges::find(names, name) == names.end()) names.push_back(name);
    return names;
  }

 private:
  int64_t room_bytes() const noexcept { return in_lines(group_ * width_ * static_cast<int64_t>(sizeof(float))); }

  std::vector<std::unique_ptr<Work>> works_;
  std::vector<const RowMap*> maps_;
  const RowEnd* end_;
  int64_t rows_, width_, group_;
};

}  // namespace

std::unique_ptr<Work> chain_rows(std::vector<std::unique_ptr<Work>> works, int64_t rows, int64_t width) {
  auto chain = std::make_unique<RowChain>(std::move(works), rows, width);
  if (!chain->is_whole()) return nullptr;
  return chain;
}

}  // namespace qfx
