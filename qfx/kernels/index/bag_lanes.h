#pragma once
// Rows of a bag on lanes of a vector (core/lanes.h): several vectors of features stay in registers while the rows go
// by. A form says how many bits an element has, and what as many of them as there are lanes stand for, or are, of
// codes.
#include "core/lanes.h"
#include "index/kernels.h"

namespace qfx::index {
namespace {

struct Floats32 {
  static constexpr int kBits = 32;
  static Floats at(const std::byte* from) noexcept { return load<Floats>(reinterpret_cast<const float*>(from)); }
};

// Which of the vectors side by side are whole, so that nothing behind a row is read.
enum class Lanes { all, first };

template <class Form, Lanes lanes>
inline auto elements(const std::byte* from, int64_t n) noexcept {
  if constexpr (lanes == Lanes::all) {
    return Form::at(from);
  } else if constexpr (Form::kBits == 32) {
    return load_part(reinterpret_cast<const float*>(from), n, Floats{});
  } else {
    std::byte part[sizeof(Floats) / sizeof(float) * Form::kBits / 8] = {};
    std::memcpy(part, from, static_cast<size_t>(n * Form::kBits / 8));
    return Form::at(part);
  }
}

inline Floats numbers(Floats elements, const BagPart&, int64_t) noexcept {
  return elements;
}
inline Floats numbers(Ints<Floats> codes, const BagPart& part, int64_t row) noexcept {
  return __builtin_convertvector(codes - part.zero[row], Floats) * part.scale[row];
}

// `kVectors` vectors of features from `begin` on; of one that is not whole, the first n lanes.
template <class Form, Fold fold, int kVectors, Lanes lanes>
inline void fold_block(const BagPart& part, int64_t begin, float* y, int64_t n) noexcept {
  const auto value = [&](int64_t row, int64_t vector) {
    const int64_t place = part.first[row] + begin + vector * kWidth<Floats>;
    auto v = numbers(elements<Form, lanes>(part.table + place * Form::kBits / 8, n), part, row);
    if constexpr (fold == Fold::weighted) v = v * part.factor[row];
    return v;
  };
  Floats made[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    float* at = y + begin + v * kWidth<Floats>;
    if (!part.fresh) {
      made[v] = lanes == Lanes::all ? load<Floats>(at) : load_part(at, n, Floats{});
    } else {
      made[v] = fold == Fold::max ? value(0, v) : Floats{};
    }
  }
  for (int64_t row = fold == Fold::max && part.fresh ? 1 : 0; row < part.rows; ++row) {
    constexpr int64_t kLine = 64, kBytes = kVectors * kWidth<Floats> * Form::kBits / 8;
    const std::byte* next = part.table + (part.first[row + kAhead] + begin) * Form::kBits / 8;
    for (int64_t at = 0; at < kBytes; at += kLine) __builtin_prefetch(next + at);
    for (int v = 0; v < kVectors; ++v)
      made[v] = fold == Fold::max ? most(value(row, v), made[v]) : made[v] + value(row, v);
  }
  for (int v = 0; v < kVectors; ++v) {
    float* at = y + begin + v * kWidth<Floats>;
    if constexpr (lanes == Lanes::all) {
      store(at, made[v]);
    } else {
      store_part(at, n, made[v]);
    }
  }
}

template <class Form, Fold fold>
inline void fold_features(const BagPart& part, float* y) noexcept {
  constexpr int64_t kWide = kWidth<Floats>;
  constexpr int kMost = kWide == 4 ? 16 : 8;  // vectors, which leave registers for the rest
  int64_t begin = 0;
  for (; part.features - begin >= kMost * kWide; begin += kMost * kWide)
    fold_block<Form, fold, kMost, Lanes::all>(part, begin, y, kWide);
  for (; part.features - begin >= 4 * kWide; begin += 4 * kWide)
    fold_block<Form, fold, 4, Lanes::all>(part, begin, y, kWide);
  for (; part.features - begin >= kWide; begin += kWide) fold_block<Form, fold, 1, Lanes::all>(part, begin, y, kWide);
  if (begin < part.features) fold_block<Form, fold, 1, Lanes::first>(part, begin, y, part.features - begin);
}

template <class Form>
inline void fold_rows(const BagPart& part, float* y) noexcept {
  if (part.fold == Fold::max) return fold_features<Form, Fold::max>(part, y);
  if (part.fold == Fold::weighted) return fold_features<Form, Fold::weighted>(part, y);
  fold_features<Form, Fold::sum>(part, y);
}

}  // namespace
}  // namespace qfx::index
