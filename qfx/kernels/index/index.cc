#include "index/index.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "core/split.h"

namespace qfx {
namespace {

template <class T>
class EmbeddingWork final : public Work {
 public:
  EmbeddingWork(const RowTable& table, int64_t count) : table_(table), count_(count) {}

  void run(const void* const* in, void* const* out, std::byte* scratch, int tid, int threads) const noexcept override {
    const Range part = split(count_, tid, threads);
    const auto* indices = static_cast<const T*>(in[0]);
    auto* y = static_cast<float*>(out[0]) + part.begin * table_.features;
    bool outside = false;
    for (int64_t i = part.begin; i < part.end; ++i, y += table_.features) {
      const int64_t row = indices[i];
      if (row >= 0 && row < table_.rows) {
        take(row, y);
      } else {
        outside = true;
        std::fill_n(y, table_.features, 0.0f);
      }
    }
    std::memcpy(scratch, &outside, sizeof outside);
  }

  size_t scratch_bytes() const noexcept override { return sizeof(bool); }
  int64_t cost() const noexcept override { return count_ * (static_cast<int64_t>(sizeof(T)) + 8 * table_.features); }
  std::string details() const override { return table_.codes == nullptr ? "rows of f32" : "rows of s8"; }

  bool refused(const std::byte* scratch) const noexcept override {
    bool outside;
    std::memcpy(&outside, scratch, sizeof outside);
    return outside;
  }

  std::string refusal() const override {
    return "An index is outside of the table, which has " + std::to_string(table_.rows) + " rows.";
  }

 private:
  void take(int64_t row, float* y) const noexcept {
    const int64_t first = row * table_.features;
    if (table_.codes == nullptr) {
      std::copy_n(table_.floats + first, table_.features, y);
      return;
    }
    const float scale = of_row(table_.scale, row);
    const int32_t zero_point = table_.zero_point.empty() ? 0 : of_row(table_.zero_point, row);
    for (int64_t i = 0; i < table_.features; ++i) {
      y[i] = static_cast<float>(table_.codes[first + i] - zero_point) * scale;
    }
  }

  template <class Entry>
  static Entry of_row(std::span<const Entry> values, int64_t row) noexcept {
    return values[values.size() == 1 ? 0 : static_cast<size_t>(row)];
  }

  RowTable table_;
  int64_t count_;
};

template <class T>
class ToF32Work final : public Work {
 public:
  explicit ToF32Work(int64_t count) : count_(count) {}

  void run(const void* const* in, void* const* out, std::byte*, int tid, int threads) const noexcept override {
    const Range part = split(count_, tid, threads);
    const auto* x = static_cast<const T*>(in[0]);
    std::transform(x + part.begin, x + part.end, static_cast<float*>(out[0]) + part.begin,
                   [](T value) { return static_cast<float>(value); });
  }

  int64_t cost() const noexcept override { return count_ * static_cast<int64_t>(sizeof(T) + sizeof(float)); }

 private:
  int64_t count_;
};

}  // namespace

template <class T>
std::unique_ptr<Work> plan_embedding(const RowTable& table, int64_t count) {
  return std::make_unique<EmbeddingWork<T>>(table, count);
}

template <class T>
std::unique_ptr<Work> plan_to_f32(int64_t count) {
  return std::make_unique<ToF32Work<T>>(count);
}

template std::unique_ptr<Work> plan_embedding<int32_t>(const RowTable&, int64_t);
template std::unique_ptr<Work> plan_embedding<int64_t>(const RowTable&, int64_t);
template std::unique_ptr<Work> plan_to_f32<int32_t>(int64_t);
template std::unique_ptr<Work> plan_to_f32<int64_t>(int64_t);
template std::unique_ptr<Work> plan_to_f32<uint8_t>(int64_t);

}  // namespace qfx
