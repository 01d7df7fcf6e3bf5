#include <algorithm>
#include <string>
#include <vector>

#include "core/split.h"
#include "index/index.h"
#include "index/kernels.h"
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

struct BagKernel {
  index::BagFloats::Fn* run;
  const char* name;
};

template <class Kind>
BagKernel best(Isa isa) noexcept {
  const auto kernel = index::select<Kind>(isa);
  return {kernel.run, kernel.name};
}

BagKernel kernel_of(const RowTable& table, Isa isa) noexcept {
  if (table.floats != nullptr) return best<index::BagFloats>(isa);
  if (table.halves != nullptr) return table.brain ? best<index::BagBrains>(isa) : best<index::BagHalves>(isa);
  if (table.bits == 8) return best<index::BagBytes>(isa);
  return best<index::BagNibbles>(table.group % 2 == 0 ? isa : Isa::scalar);
}

constexpr int64_t kRowsAtOnce = 32;

// Rows that a bag counts, and what is theirs; behind them those that come next.
struct CountedRows {
  int64_t count = 0;
  int64_t row[kRowsAtOnce + index::kAhead], first[kRowsAtOnce + index::kAhead];
  float factor[kRowsAtOnce], scale[kRowsAtOnce];
  int32_t zero[kRowsAtOnce];

  // What the codes of a group of each row stand for.
  void decode(const RowTable& table, int64_t group) noexcept {
    const auto each = [&, step = table.row_scales](auto* to, const auto& value) {
      for (int64_t i = 0; i < count; ++i) to[i] = value(row[i] * step + group);
    };
    if (table.half_scale.empty()) {
      each(scale, [from = table.scale.data()](int64_t at) { return from[at]; });
    } else {
      each(scale, [from = table.half_scale.data()](int64_t at) { return float_of_half(from[at]); });
    }
    if (!table.zero_point.empty()) {
      each(zero, [from = table.zero_point.data()](int64_t at) { return from[at]; });
    } else if (table.code_zero.empty()) {
      std::fill_n(zero, count, 0);
    } else {
      each(zero, [&](int64_t at) { return table.zero_at(at); });
    }
  }
};

template <class T>
class BagWork final : public Refusing {
 public:
  BagWork(const RowTable& table, const Bags& bags, Isa isa)
      : table_(table), bags_(bags), kernel_(kernel_of(table, isa)), span_(table.span()) {}

  void run(const void* const* in, void* const* out, std::byte* scratch, int tid, int threads) const noexcept override {
    const Range part = split(bags_.count, tid, threads);
    const auto* indices = static_cast<const T*>(in[0]);
    const auto* starts = bags_.starts == 0 ? nullptr : static_cast<const int64_t*>(in[1]);
    const auto* factors = bags_.factors ? static_cast<const float*>(in[starts == nullptr ? 1 : 2]) : nullptr;
    bool outside = starts != nullptr && starts[0] != 0;
    for (int64_t bag = part.begin; bag < part.end; ++bag) {
      const Range own = starts == nullptr ? equal(bag) : given(bag, starts);
      auto* y = static_cast<float*>(out[0]) + bag * table_.features;
      if (own.begin < 0 || own.begin > own.end || own.end > bags_.indices) {
        outside = true;
        std::fill_n(y, table_.features, 0.0f);
      } else {
        outside |= !take(indices, factors, own, y);
      }
    }
    say(scratch, outside);
  }

  int64_t cost() const noexcept override {
    return bags_.indices * (static_cast<int64_t>(sizeof(T)) + 8 * table_.features) + 4 * bags_.count * table_.features;
  }
  std::vector<const char*> kernels() const override { return {kernel_.name}; }
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

  // A bag into y. Returns whether the table holds all of its rows.
  bool take(const T* indices, const float* factors, Range own, float* y) const noexcept {
    bool inside = true;
    int64_t counted = 0;
    for (int64_t i = own.begin; i < own.end; i += kRowsAtOnce) {
      const int64_t n = std::min(own.end - i, kRowsAtOnce), left = bags_.indices - i - n;
      CountedRows rows;
      inside &= count(indices + i, factors == nullptr ? nullptr : factors + i, n, rows);
      look_ahead(indices + i + n, std::min(left, index::kAhead), rows);
      if (rows.count > 0) fold(rows, factors != nullptr, counted == 0, y);
      counted += rows.count;
    }
    if (counted == 0) std::fill_n(y, table_.features, 0.0f);
    if (bags_.mode == BagMode::mean && counted > 0) {
      const auto number = static_cast<float>(counted);
      for (int64_t f = 0; f < table_.features; ++f) y[f] /= number;
    }
    return inside;
  }

  // Those of n rows that are in the table and no padding. Returns whether all are in the table.
  bool count(const T* indices, const float* factor, int64_t n, CountedRows& rows) const noexcept {
    const auto end = static_cast<uint64_t>(table_.rows);
    const int64_t padding = bags_.padding;
    int64_t count = 0;
    bool inside = true;
    for (int64_t i = 0; i < n; ++i) {
      const int64_t row = indices[i];
      const bool held = static_cast<uint64_t>(row) < end;
      rows.row[count] = row;
      if (factor != nullptr) rows.factor[count] = factor[i];
      count += held && row != padding ? 1 : 0;
      inside &= held;
    }
    rows.count = count;
    return inside;
  }

  // The rows of the next n indices, or some row.
  void look_ahead(const T* next, int64_t n, CountedRows& rows) const noexcept {
    for (int64_t i = 0; i < index::kAhead; ++i) {
      const int64_t row = i < n ? next[i] : 0;
      rows.row[rows.count + i] = table_.holds(row) ? row : 0;
    }
  }

  // Rows into y, the features that share a scale at a time.
  void fold(CountedRows& rows, bool weighted, bool fresh, float* y) const noexcept {
    using index::Fold;
    const Fold way = bags_.mode == BagMode::max ? Fold::max : weighted ? Fold::weighted : Fold::sum;
    for (int64_t begin = 0, group = 0; begin < table_.features; begin += span_, ++group) {
      for (int64_t i = 0; i < rows.count + index::kAhead; ++i) rows.first[i] = rows.row[i] * table_.features + begin;
      if (table_.codes != nullptr) rows.decode(table_, group);
      kernel_.run({way, fresh, table_.elements(), rows.first, rows.factor, rows.scale, rows.zero, rows.count, span_},
                  y + begin);
    }
  }

  RowTable table_;
  Bags bags_;
  BagKernel kernel_;
  int64_t span_;  // features that the kernel takes at a time
};

}  // namespace

template <class T>
std::unique_ptr<Work> plan_embedding(const RowTable& table, int64_t count) {
  return std::make_unique<EmbeddingWork<T>>(table, count);
}

template <class T>
std::unique_ptr<Work> plan_embedding_bag(const RowTable& table, const Bags& bags, Isa isa) {
  return std::make_unique<BagWork<T>>(table, bags, isa);
}

template std::unique_ptr<Work> plan_embedding<int32_t>(const RowTable&, int64_t);
template std::unique_ptr<Work> plan_embedding<int64_t>(const RowTable&, int64_t);
template std::unique_ptr<Work> plan_embedding_bag<int32_t>(const RowTable&, const Bags&, Isa);
template std::unique_ptr<Work> plan_embedding_bag<int64_t>(const RowTable&, const Bags&, Isa);

}  // namespace qfx
