#include <algorithm>

#include "core/half.h"
#include "core/nibbles.h"
#include "index/kernels.h"

namespace qfx::index {
namespace {

// element(i, row) is what element i of the table stands for, in that row.
template <class Element>
void fold_rows(const BagPart& part, float* __restrict y, const Element& element) noexcept {
  if (part.fresh) std::fill_n(y, part.features, 0.0f);
  for (int64_t row = 0; row < part.rows; ++row) {
    const int64_t first = part.first[row];
    const auto each = [&](const auto& put) {
      for (int64_t f = 0; f < part.features; ++f) put(y[f], element(first + f, row));
    };
    if (part.fold == Fold::max && part.fresh && row == 0) {
      each([](float& sum, float value) { sum = value; });
    } else if (part.fold == Fold::max) {
      each([](float& sum, float value) { sum = value > sum ? value : sum; });
    } else if (part.fold == Fold::weighted) {
      each([by = part.factor[row]](float& sum, float value) { sum += value * by; });
    } else {
      each([](float& sum, float value) { sum += value; });
    }
  }
}

}  // namespace

void bag_f32__scalar(const BagPart& part, float* y) noexcept {
  const auto* table = reinterpret_cast<const float*>(part.table);
  fold_rows(part, y, [=](int64_t i, int64_t) { return table[i]; });
}
void bag_f16__scalar(const BagPart& part, float* y) noexcept {
  const auto* table = reinterpret_cast<const uint16_t*>(part.table);
  fold_rows(part, y, [=](int64_t i, int64_t) { return float_of_half(table[i]); });
}
void bag_bf16__scalar(const BagPart& part, float* y) noexcept {
  const auto* table = reinterpret_cast<const uint16_t*>(part.table);
  fold_rows(part, y, [=](int64_t i, int64_t) { return float_of_brain(table[i]); });
}
void bag_s8__scalar(const BagPart& part, float* y) noexcept {
  const auto* table = reinterpret_cast<const int8_t*>(part.table);
  fold_rows(part, y,
            [&](int64_t i, int64_t row) { return static_cast<float>(table[i] - part.zero[row]) * part.scale[row]; });
}
void bag_s4__scalar(const BagPart& part, float* y) noexcept {
  fold_rows(part, y, [&](int64_t i, int64_t row) {
    return static_cast<float>(nibble_at(part.table, i) - part.zero[row]) * part.scale[row];
  });
}

}  // namespace qfx::index
