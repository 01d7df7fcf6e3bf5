#include "index/index.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "core/half.h"
#include "core/nest.h"
#include "core/nibbles.h"
#include "core/split.h"

namespace qfx {
namespace {

// Work whose run() says in its scratch whether an index was outside.
class Refusing : public Work {
 public:
  size_t scratch_bytes() const noexcept final { return sizeof(bool); }

  bool refused(const std::byte* scratch) const noexcept final {
    bool outside;
    std::memcpy(&outside, scratch, sizeof outside);
    return outside;
  }

 protected:
  static void say(std::byte* scratch, bool outside) noexcept { std::memcpy(scratch, &outside, sizeof outside); }
  static std::string places(int64_t size) { return std::to_string(size) + (size == 1 ? " place" : " places"); }

  // Zeros in place of nothing.
  static void copy(const std::byte* from, std::byte* to, int64_t bytes) noexcept {
    if (from != nullptr) {
      std::memcpy(to, from, static_cast<size_t>(bytes));
    } else {
      std::memset(to, 0, static_cast<size_t>(bytes));
    }
  }
};

template <class T>
class EmbeddingWork final : public Refusing {
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
    say(scratch, outside);
  }

  int64_t cost() const noexcept override { return count_ * (static_cast<int64_t>(sizeof(T)) + 8 * table_.features); }
  std::string details() const override {
    return table_.codes == nullptr ? "rows of f32" : table_.bits == 8 ? "rows of s8" : "rows of s4";
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
    int64_t at = row * table_.row_scales;
    for (int64_t i = 0; i < table_.features; i += table_.group, ++at) decode(first + i, at, y + i);
  }

  // The group of codes that begins at `first`, by the scale at `at`.
  void decode(int64_t first, int64_t at, float* y) const noexcept {
    const auto place = static_cast<size_t>(at);
    const float scale = table_.half_scale.empty() ? table_.scale[place] : float_of_half(table_.half_scale[place]);
    const int zero = zero_point(at);
    if (table_.bits == 8) {
      const auto* codes = reinterpret_cast<const int8_t*>(table_.codes) + first;
      for (int64_t i = 0; i < table_.group; ++i) y[i] = static_cast<float>(codes[i] - zero) * scale;
      return;
    }
    int64_t i = first % 2;  // what begins within a byte
    if (i != 0) y[0] = static_cast<float>(nibble_at(table_.codes, first) - zero) * scale;
    for (; i + 1 < table_.group; i += 2) {
      y[i] = static_cast<float>(nibble_at(table_.codes + (first + i) / 2, 0) - zero) * scale;
      y[i + 1] = static_cast<float>(nibble_at(table_.codes + (first + i) / 2, 1) - zero) * scale;
    }
    if (i < table_.group) y[i] = static_cast<float>(nibble_at(table_.codes, first + i) - zero) * scale;
  }

  int zero_point(int64_t at) const noexcept {
    if (!table_.zero_point.empty()) return table_.zero_point[static_cast<size_t>(at)];
    if (table_.code_zero.empty()) return 0;
    return table_.bits == 8 ? static_cast<int8_t>(table_.code_zero[static_cast<size_t>(at)])
                            : nibble_at(table_.code_zero.data(), at);
  }

  RowTable table_;
  int64_t count_;
};

constexpr int kMostIndices = 3;

class GatherWork final : public Refusing {
 public:
  explicit GatherWork(const GatherShape& shape)
      : element_(shape.element), size_(shape.x[shape.axis]), count_(element_count(shape.index)) {
    std::vector<int64_t> strides[] = {dense_strides(shape.x)};
    step_ = strides[0][shape.axis];
    strides[0][shape.axis] = 0;
    nest_ = collapse(shape.index, strides);
  }

  void run(const void* const* in, void* const* out, std::byte* scratch, int tid, int threads) const noexcept override {
    const Range part = split(count_, tid, threads, 16);
    const auto* index = static_cast<const int64_t*>(in[1]);
    bool outside = false;
    say(scratch, outside);
    if (part.begin >= part.end) return;
    Cursor<1> cursor(nest_, part.begin);
    for (int64_t i = part.begin; i < part.end; ++i, cursor.advance()) {
      const bool inside = index[i] >= 0 && index[i] < size_;
      outside |= !inside;
      copy(inside ? static_cast<const std::byte*>(in[0]) + (cursor.offset[0] + index[i] * step_) * element_ : nullptr,
           static_cast<std::byte*>(out[0]) + i * element_, element_);
    }
    say(scratch, outside);
  }

  int64_t cost() const noexcept override { return count_ * (16 + 2 * element_); }
  std::string refusal() const override { return "An index is outside of its dim, which has " + places(size_) + "."; }

 private:
  int64_t element_, size_, count_, step_ = 0;
  Nest<1> nest_;
};

class TakeWork final : public Refusing {
 public:
  explicit TakeWork(const TakeShape& shape) : bytes_(shape.bytes), indices_(static_cast<int>(shape.dims.size())) {
    std::vector<int64_t> strides[kMostIndices], result(shape.index[0].size(), 1);
    for (const auto& index : shape.index) {
      for (size_t d = 0; d < result.size(); ++d) result[d] = index[d] == 1 ? result[d] : index[d];
    }
    for (int k = 0; k < kMostIndices; ++k) {
      const auto& index = shape.index[static_cast<size_t>(std::min(k, indices_ - 1))];
      strides[k] = dense_strides(index);
      for (size_t d = 0; d < result.size(); ++d) strides[k][d] = index[d] == 1 ? 0 : strides[k][d];
    }
    for (int k = 0; k < indices_; ++k) size_[k] = shape.dims[static_cast<size_t>(k)];
    count_ = element_count(result);
    nest_ = collapse(result, strides);
  }

  void run(const void* const* in, void* const* out, std::byte* scratch, int tid, int threads) const noexcept override {
    const Range part = split(count_, tid, threads);
    bool outside = false;
    say(scratch, outside);
    if (part.begin >= part.end) return;
    Cursor<kMostIndices> cursor(nest_, part.begin);
    for (int64_t i = part.begin; i < part.end; ++i, cursor.advance()) {
      int64_t place = 0;
      bool inside = true;
      for (int k = 0; k < indices_; ++k) {
        int64_t at = static_cast<const int64_t*>(in[1 + k])[cursor.offset[k]];
        inside &= at >= -size_[k] && at < size_[k];
        at += at < 0 ? size_[k] : 0;
        place = inside ? place * size_[k] + at : 0;
      }
      outside |= !inside;
      copy(inside ? static_cast<const std::byte*>(in[0]) + place * bytes_ : nullptr,
           static_cast<std::byte*>(out[0]) + i * bytes_, bytes_);
    }
    say(scratch, outside);
  }

  int64_t cost() const noexcept override { return count_ * (16 + 2 * bytes_); }

  std::string refusal() const override {
    std::string sizes = places(size_[0]);
    for (int k = 1; k < indices_; ++k) sizes += " and " + places(size_[k]);
    return "An index is outside of its dim, which has " + sizes + ".";
  }

 private:
  int64_t bytes_, count_ = 0;
  int indices_;
  int64_t size_[kMostIndices] = {};
  Nest<kMostIndices> nest_;
};

}  // namespace

template <class T>
std::unique_ptr<Work> plan_embedding(const RowTable& table, int64_t count) {
  return std::make_unique<EmbeddingWork<T>>(table, count);
}

std::unique_ptr<Work> plan_gather(const GatherShape& shape) {
  return std::make_unique<GatherWork>(shape);
}

std::unique_ptr<Work> plan_take(const TakeShape& shape) {
  return std::make_unique<TakeWork>(shape);
}

template std::unique_ptr<Work> plan_embedding<int32_t>(const RowTable&, int64_t);
template std::unique_ptr<Work> plan_embedding<int64_t>(const RowTable&, int64_t);

}  // namespace qfx
