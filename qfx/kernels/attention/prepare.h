#pragma once
// Codes and scales of queries, keys and values, in the order in which tile.h multiplies them.
#include <algorithm>

#include "attention/held.h"
#include "attention/transpose.h"

namespace qfx::attention {
namespace {

// What of `n` floats is there in a vector; zeros behind them.
template <class V>
inline V load_some(const float* from, int64_t n) noexcept {
  return n >= kWidth<V> ? load<V>(from) : load_part(from, std::max<int64_t>(n, 0), V{});
}

template <class I>
inline I greater(I a, I b) noexcept {
  return a > b ? a : b;
}

// The greatest |x| of each of four rows, as its bits.
template <class V>
inline FourInts tops_of(const float* const (&rows)[4], int64_t n) noexcept {
  constexpr int32_t kMagnitude = 0x7fffffff;
  Ints<V> tops[4] = {};
  const auto take = [&](int64_t c, auto&& load_from) {
    for (int64_t i = 0; i < 4; ++i) tops[i] = greater(tops[i], ints(load_from(rows[i] + c)) & kMagnitude);
  };
  int64_t c = 0;
  for (; c + kWidth<V> <= n; c += kWidth<V>) take(c, [](const float* x) { return load<V>(x); });
  if (c < n) take(c, [=](const float* x) { return load_part(x, n - c, V{}); });
  turn(tops);
  const Ints<V> top = greater(greater(tops[0], tops[1]), greater(tops[2], tops[3]));
  FourInts parts[kWidth<V> / 4];
  std::memcpy(parts, &top, sizeof top);
  for (int64_t k = 1; k < kWidth<V> / 4; ++k) parts[0] = greater(parts[0], parts[k]);
  return parts[0];
}

// Four rows from `first` of `n`, of which there is one: behind the last, that again.
inline void find_rows(const float* x, int64_t row, int64_t first, int64_t n, const float* (&rows)[4]) noexcept {
  for (int64_t i = 0; i < 4; ++i) rows[i] = x + std::min(first + i, n - 1) * row;
}

constexpr int64_t kLine = 16;  // floats
constexpr int64_t kAhead = 8;  // rows, which lie apart

// What codes are made with and the scales of kRows rows, of which those from `n` on are as the last. False where one is
// not finite.
template <class V, int64_t kRows>
inline bool scale_rows(const float* x, int64_t row, int64_t n, int64_t length, float* inverse, float* scale) noexcept {
  int32_t top[kRows];
  FourInts greatest = {};
  for (int64_t r = 0; r < kRows; r += 4) {
    const float* rows[4];
    find_rows(x, row, r, n, rows);
    for (const float* from : rows)
      for (int64_t c = 0; c < length; c += kLine) __builtin_prefetch(from + kAhead * row + c);
    const FourInts tops = tops_of<V>(rows, length);
    greatest = greater(greatest, tops);
    std::memcpy(top + r, &tops, sizeof tops);
  }
  for (int64_t r = 0; r < kRows; r += kWidth<V>) {
    Ints<V> some;
    std::memcpy(&some, top + r, sizeof some);
    const Scaling<V> s = scaling_of<V>(some);
    store(inverse + r, s.inverse);
    store(scale + r, s.scale);
  }
  return std::max(std::max(greatest[0], greatest[1]), std::max(greatest[2], greatest[3])) < kNotFinite;
}

template <class T>
inline void code_row(const float* x, int64_t n, float inverse, typename T::Code* codes, int64_t padded) noexcept {
  for (int64_t c = 0; c < n; ++c) codes[c] = static_cast<typename T::Code>(ints(x[c] * inverse + kRounding));
  for (int64_t c = n; c < padded; ++c) codes[c] = 0;
}

// [row][step][group] to [step][row][group].
template <class T, int64_t kRows>
inline void interleave(const typename T::Code* rows, int64_t steps, typename T::Code* to) noexcept {
  struct Unit {
    typename T::Code codes[T::kGroup];
  };
  for (int64_t s = 0; s < steps; ++s)
    for (int64_t r = 0; r < kRows; ++r)
      std::memcpy(to + (s * kRows + r) * T::kGroup, rows + (r * steps + s) * T::kGroup, sizeof(Unit));
}

// Codes of four rows of floats as steps of four columns, `to_step` codes apart, of which there are `steps`.
template <class T>
inline void code_four_rows(const float* const (&rows)[4], const float (&inverse)[4], int64_t depth,
                           typename T::Code* to, int64_t to_step, int64_t steps) noexcept {
  using V = typename T::Floats;
  const auto code = [&](int64_t c, auto&& load_from) {
    Ints<V> codes[4];
    for (int64_t i = 0; i < 4; ++i) codes[i] = ints(load_from(rows[i] + c) * inverse[i] + kRounding);
    return T::turned(T::pack(codes));
  };
  const auto put = [&](int64_t c, const typename T::Codes& turned, int64_t n) {
    const auto* from = reinterpret_cast<const typename T::Code*>(&turned);
    for (int64_t s = 0; s < n; ++s) std::memcpy(to + (c / 4 + s) * to_step, from + s * 16, 16);
  };
  int64_t c = 0;
  for (; c + kWidth<V> <= depth; c += kWidth<V>)
    put(c, code(c, [](const float* x) { return load<V>(x); }), kWidth<V> / 4);
  if (c < depth) put(c, code(c, [=](const float* x) { return load_part(x, depth - c, V{}); }), steps - c / 4);
}

// Codes of kRows rows, of which those from `n` on are zeros: [step][row][group].
template <class T, int64_t kRows>
inline void code_rows(const Held<T>& h, const float* x, int64_t row, int64_t n, int64_t depth, const float* inverse,
                      typename T::Code* to) noexcept {
  if constexpr (requires(typename T::Codes codes) { T::turned(codes); }) {
    for (int64_t r = 0; r < kRows; r += 4) {
      const float* rows[4];
      find_rows(x, row, r, n, rows);
      float factors[4];
      for (int64_t i = 0; i < 4; ++i) factors[i] = r + i < n ? inverse[r + i] : 0.0f;
      code_four_rows<T>(rows, factors, depth, to + r * 4, kRows * 4, h.steps);
    }
  } else {
    const int64_t padded = h.steps * T::kGroup;
    for (int64_t r = 0; r < kRows; ++r)
      code_row<T>(x + r * row, r < n ? depth : 0, inverse[r], h.rows + r * padded, padded);
    interleave<T, kRows>(h.rows, h.steps, to);
  }
}

template <class T>
inline void pack_keys(const Piece& p, const Held<T>& h, int64_t first, const float* inverse) noexcept {
  for (int64_t j = first; j < std::min(first + kBlock, p.keys); j += kColumns) {
    typename T::Code* panel = h.key_codes + j * h.steps * T::kGroup;
    code_rows<T, kColumns>(h, p.k + j * p.k_row, p.k_row, p.keys - j, p.depth, inverse + j - first, panel);
    if constexpr (T::kQueryShift != 0) T::start(panel, h.steps, h.key_start + j);
  }
}

// A group of kGroup values of consecutive keys, for as many columns as there are lanes.
template <class T>
inline void pack_values(const Piece& p, const Held<T>& h, int64_t first, const float* inverse) noexcept {
  using V = typename T::Floats;
  constexpr int64_t kSome = std::min(kWidth<V>, kColumns) * T::kGroup;  // codes of a vector that lie together
  for (int64_t j = first; j < std::min(first + kBlock, up_to(p.keys, kColumns)); j += T::kGroup) {
    typename T::Code* to = h.value_codes + j * kColumns;
    for (int64_t d = 0; d < h.panels * kColumns; d += kWidth<V>) {
      Ints<V> codes[T::kGroup];
      for (int64_t k = 0; k < T::kGroup; ++k) {
        const V x = load_some<V>(p.v + (j + k) * p.v_row + d, j + k < p.keys ? p.width - d : 0);
        codes[k] = ints(x * inverse[j + k - first] + kRounding);
      }
      const typename T::Codes packed = T::pack(codes);
      const auto* from = reinterpret_cast<const typename T::Code*>(&packed);
      for (int64_t part = 0; part * kSome < kWidth<V> * T::kGroup && d / kColumns + part < h.panels; ++part)
        std::memcpy(to + (d / kColumns + part) * kColumns * h.keys + d % kColumns * T::kGroup, from + part * kSome,
                    kSome * sizeof(typename T::Code));
    }
  }
}

template <class T>
inline void start_values(const Piece& p, const Held<T>& h) noexcept {
  for (int64_t at = 0; at < h.panels * h.blocks; ++at) {
    const int64_t keys = std::min(kBlock, up_to(p.keys - at % h.blocks * kBlock, kColumns));
    T::start(h.value_codes + at * kColumns * kBlock, keys / T::kGroup, h.value_start + at * kColumns);
  }
}

template <class T>
inline void prepare_keys(const Piece& p, const Held<T>& h) noexcept {
  using V = typename T::Floats;
  float inverse[kBlock], scale[kBlock];
  *h.finite = true;
  for (int64_t j = 0; j < p.keys; j += kBlock) {
    const int64_t n = std::min(kBlock, p.keys - j);
    bool finite = scale_rows<V, kBlock>(p.k + j * p.k_row, p.k_row, n, p.depth, inverse, h.key_scale + j);
    pack_keys(p, h, j, inverse);
    finite &= scale_rows<V, kBlock>(p.v + j * p.v_row, p.v_row, n, p.width, inverse, scale);
    pack_values(p, h, j, inverse);
    for (int64_t r = 0; r < kBlock; r += kWidth<V>) {
      store(h.log_scale + j + r, log2_of(load<V>(scale + r)));
      store(h.reciprocal + j + r, 1.0f / load<V>(scale + r));
    }
    *h.finite &= finite;
  }
  if constexpr (T::kWeightShift != 0) start_values(p, h);
}

// What the mask adds to the scores of query i with `n` keys from `first` on.
inline void read_row(const Piece& p, int64_t i, int64_t first, int64_t n, float* to) noexcept {
  const int64_t at = i * p.mask.row + first * p.mask.column, step = p.mask.column;
  const auto each = [&](auto entry) {
    if (step == 1)
      for (int64_t j = 0; j < n; ++j) to[j] = entry(at + j);
    else
      for (int64_t j = 0; j < n; ++j) to[j] = entry(at + j * step);
  };
  const auto* additive = static_cast<const float*>(p.mask.at);
  const auto* visible = static_cast<const uint8_t*>(p.mask.at);
  if (p.mask.type == MaskType::additive)
    each([&](int64_t e) { return mask_offset(additive[e]); });
  else if (p.mask.type == MaskType::visible)
    each([&](int64_t e) { return visible[e] != 0 ? 0.0f : -kInfinity; });
  else
    std::fill_n(to, n, 0.0f);
}

// A mask of one row, as part of what is added to each key's product.
template <class T>
inline void prepare_offsets(const Piece& p, const Held<T>& h) noexcept {
  if (p.mask.row == 0)
    read_row(p, 0, 0, p.keys, h.row_offset);
  else
    std::fill_n(h.row_offset, p.keys, 0.0f);
  std::fill(h.row_offset + p.keys, h.row_offset + h.keys, -kInfinity);
  for (int64_t j = 0; j < h.keys; ++j) h.bias[j] = h.row_offset[j] + h.log_scale[j];
  if (p.mask.type == MaskType::none) return;
  for (int64_t b = 0; b < h.blocks; ++b)
    h.row_top[b] = *std::max_element(h.row_offset + b * kBlock, h.row_offset + (b + 1) * kBlock);
  *h.key_top = *std::max_element(h.key_scale, h.key_scale + p.keys);
}

// Queries [first, first + n): their codes, and the scale of each lane, NaN where the row is not finite.
template <class T>
inline typename T::Floats prepare_queries(const Piece& p, const Held<T>& h, int64_t first, int64_t n) noexcept {
  using V = typename T::Floats;
  constexpr int64_t kLanes = Held<T>::kLanes;
  const float* rows = p.q + first * p.q_row;
  float inverse[kLanes], scale[kLanes];
  scale_rows<V, kLanes>(rows, p.q_row, n, p.depth, inverse, scale);
  code_rows<T, kLanes>(h, rows, p.q_row, n, p.depth, inverse, reinterpret_cast<typename T::Code*>(h.queries));
  if constexpr (T::kQueryShift != 0)
    for (int64_t s = 0; s < h.steps; ++s) h.queries[s] = T::shifted(h.queries[s]);
  return load<V>(scale);
}

}  // namespace
}  // namespace qfx::attention
