#include <algorithm>
#include <string>

#include "core/split.h"
#include "index/index.h"
#include "index/refusing.h"

namespace qfx {
namespace {

std::string outside_of(const RowTable& table) {
  return "An index is outside of the table, which has " + std::to_string(table.rows) + " rows";
}

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
      if (!table_.holds(row)) {
        outside = true;
        std::fill_n(y, table_.features, 0.0f);
      } else if (table_.floats != nullptr) {
        std::copy_n(table_.floats + row * table_.features, table_.features, y);
      } else {
        table_.each(row, [y](int64_t f, float value) { y[f] = value; });
      }
    }
    say(scratch, outside);
  }

  int64_t cost() const noexcept override { return count_ * (static_cast<int64_t>(sizeof(T)) + 8 * table_.features); }
  std::string details() const override { return table_.name(); }
  std::string refusal() const override { return outside_of(table_) + "."; }

 private:
  RowTable table_;
  int64_t count_;
};

template <class T>
class BagWork final : public Refusing {
 public:
  BagWork(const RowTable& table, const Bags& bags) : table_(table), bags_(bags) {}

  void run(const void* const* in, void* const* out, std::byte* scratch, int tid, int threads) const noexcept override {
    const Range part = split(bags_.count, tid, threads);
    const auto* indices = static_cast<const T*>(in[0]);
    const auto* starts = bags_.starts == 0 ? nullptr : static_cast<const int64_t*>(in[1]);
    const auto* factors = bags_.factors ? static_cast<const float*>(in[starts == nullptr ? 1 : 2]) : nullptr;
    bool outside = starts != nullptr && starts[0] != 0;
    for (int64_t bag = part.begin; bag < part.end; ++bag) {
      const Range own = starts == nullptr ? equal(bag) : given(bag, starts);
      auto* y = static_cast<float*>(out[0]) + bag * table_.features;
      std::fill_n(y, table_.features, 0.0f);
      if (own.begin < 0 || own.begin > own.end || own.end > bags_.indices) {
        outside = true;
      } else {
        outside |= !take(indices, factors, own, y);
      }
    }
    say(scratch, outside);
  }

  int64_t cost() const noexcept override {
    return bags_.indices * (static_cast<int64_t>(sizeof(T)) + 8 * table_.features) + 4 * bags_.count * table_.features;
  }
  std::string details() const override { return table_.name(); }
  std::string refusal() const override {
    const bool equal = bags_.starts == 0;
    return outside_of(table_) + (equal ? "." : ", or offsets do not rise from 0 to at most the number of indices.");
  }

 private:
  Range equal(int64_t bag) const noexcept {
    const int64_t each = bags_.indices / bags_.count;
    return {bag * each, (bag + 1) * each};
  }
  Range given(int64_t bag, const int64_t* starts) const noexcept {
    return {starts[bag], bag + 1 < bags_.starts ? starts[bag + 1] : bags_.indices};
  }

  // A bag into y, which is 0. Returns whether the table holds all of its rows.
  bool take(const T* indices, const float* factors, Range own, float* __restrict y) const noexcept {
    bool inside = true;
    int64_t counted = 0;
    for (int64_t i = own.begin; i < own.end; ++i) {
      const int64_t row = indices[i];
      if (!table_.holds(row)) {
        inside = false;
      } else if (row != bags_.padding) {
        take_row(row, factors == nullptr ? nullptr : factors + i, counted++ == 0, y);
      }
    }
    if (bags_.mode == BagMode::mean && counted > 0) {
      const auto number = static_cast<float>(counted);
      for (int64_t f = 0; f < table_.features; ++f) y[f] /= number;
    }
    return inside;
  }

  void take_row(int64_t row, const float* factor, bool first, float* __restrict y) const noexcept {
    if (bags_.mode == BagMode::max) {
      table_.each(row, [=](int64_t f, float value) { y[f] = first || value > y[f] ? value : y[f]; });
    } else if (factor != nullptr) {
      table_.each(row, [=, by = *factor](int64_t f, float value) { y[f] += value * by; });
    } else {
      table_.each(row, [=](int64_t f, float value) { y[f] += value; });
    }
  }

  RowTable table_;
  Bags bags_;
};

}  // namespace

template <class T>
std::unique_ptr<Work> plan_embedding(const RowTable& table, int64_t count) {
  return std::make_unique<EmbeddingWork<T>>(table, count);
}

template <class T>
std::unique_ptr<Work> plan_embedding_bag(const RowTable& table, const Bags& bags) {
  return std::make_unique<BagWork<T>>(table, bags);
}

template std::unique_ptr<Work> plan_embedding<int32_t>(const RowTable&, int64_t);
template std::unique_ptr<Work> plan_embedding<int64_t>(const RowTable&, int64_t);
template std::unique_ptr<Work> plan_embedding_bag<int32_t>(const RowTable&, const Bags&);
template std::unique_ptr<Work> plan_embedding_bag<int64_t>(const RowTable&, const Bags&);

}  // namespace qfx
