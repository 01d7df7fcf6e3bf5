#pragma once
// The kernel of every level with vectors: its lanes are queries, so that no operation goes across a vector. Keys and
// values are prepared once a head (prepare.h); a vector of queries then passes over all blocks of keys, and what it
// made of them over the values.
#include "attention/prepare.h"

namespace qfx::attention {
namespace {

template <class T>
class Tile {
  using V = typename T::Floats;
  using I = Ints<V>;
  using H = Held<T>;

 public:
  Tile(const Piece& piece, const H& held, int64_t first) noexcept
      : p_(piece), h_(held), first_(first), count_(std::min(H::kLanes, piece.end - first)) {
    // Keys that no query of the tile sees change nothing.
    visible_ = p_.causal ? std::min(p_.keys, first_ + count_) : p_.keys;
    blocks_ = ceil_div(visible_, kBlock);
    has_rows_ = p_.mask.type != MaskType::none && p_.mask.row != 0;
  }

  void run() noexcept {
    const V scale = prepare_queries<T>(p_, h_, first_, count_);
    factor_ = scale * p_.factor;
    V greatest = all<V>(-kInfinity);
    for (int64_t b = 0; b < blocks_; ++b) {
      const V top = score(b);
      weigh(b, top);
      greatest = most(top, greatest);
    }
    const I flat = (greatest < all<V>(kFlatBelow)) & (greatest > all<V>(-kInfinity));
    if (any(flat)) greatest = flatten(flat, greatest);
    const V inverse = 1.0f / join_blocks(greatest);
    multiply_values(inverse);
    write(greatest == all<V>(-kInfinity), scale == scale);
  }

 private:
  // A block's keys, of whole panels: those that the tile sees, unless sums start at a value for the whole block.
  int64_t keys_of(int64_t b) const noexcept {
    const int64_t end = T::kWeightShift != 0 ? p_.keys : visible_;
    return std::min(kBlock, up_to(end - b * kBlock, kColumns));
  }
  bool has_offsets(int64_t b) const noexcept { return has_rows_ || (p_.causal && (b + 1) * kBlock > first_ + 1); }
  static bool any(I lanes) noexcept {
    bool found = false;
    for (int64_t l = 0; l < H::kLanes; ++l) found = found || lanes[l] != 0;
    return found;
  }

  template <class Score>
  V multiply_keys(int64_t b, Score&& score) const noexcept;
  V score(int64_t b) const noexcept;
  void weigh(int64_t b, V greatest) const noexcept;
  void read_offsets(int64_t b) const noexcept;
  void read_mask(int64_t b) const noexcept;
  V flatten(I flat, V greatest) const noexcept;
  V join_blocks(V greatest) const noexcept;
  void multiply_values(V inverse) const noexcept;
  void write(I hidden, I finite) const noexcept;

  const Piece& p_;
  const H& h_;
  int64_t first_, count_;
  int64_t visible_, blocks_;
  bool has_rows_;
  V factor_;
};

// Scores of a block: what `score` makes of each key and its x. Returns the greatest.
template <class T>
template <class Score>
inline typename T::Floats Tile<T>::multiply_keys(int64_t b, Score&& score) const noexcept {
  const int64_t keys = keys_of(b), panel = kColumns * T::kGroup;
  V greatest = all<V>(-kInfinity);
  for (int64_t n = 0; n < keys; n += kColumns) {
    const int64_t j = b * kBlock + n;
    I acc[kColumns] = {};
    if constexpr (T::kQueryShift != 0)
      for (int64_t c = 0; c < kColumns; ++c) acc[c] = I{} + h_.key_start[j + c];
    const typename T::Code* codes = h_.key_codes + j * h_.steps * T::kGroup;
    for (int64_t s = 0; s < h_.steps; ++s) T::dot(acc, h_.queries[s], codes + s * panel);
    for (int64_t c = 0; c < kColumns; ++c) {
      const V e = score(n + c, (converted<V>(acc[c]) * h_.key_scale[j + c]) * factor_);
      greatest = most(e, greatest);
      h_.scores[n + c] = e;
    }
  }
  return greatest;
}

// e of a block. Returns the greatest.
template <class T>
inline typename T::Floats Tile<T>::score(int64_t b) const noexcept {
  const float* bias = h_.bias + b * kBlock;
  if (!has_offsets(b)) return multiply_keys(b, [&](int64_t n, V x) { return x + bias[n]; });
  read_offsets(b);
  return multiply_keys(b, [&](int64_t n, V x) { return x + (h_.offsets[n] + bias[n]); });
}

// Weights of a block, and their sum.
template <class T>
inline void Tile<T>::weigh(int64_t b, V greatest) const noexcept {
  const float* reciprocal = h_.reciprocal + b * kBlock;
  typename T::Codes* weights = h_.weights + b * H::kBlockSteps;
  V sum = {};
  for (int64_t j = 0; j < keys_of(b); j += T::kGroup) {
    I codes[T::kGroup];
    for (int64_t k = 0; k < T::kGroup; ++k) {
      const V u = exp2_of((h_.scores[j + k] - greatest) + kWeights);
      sum += u * reciprocal[j + k];
      codes[k] = ints(u + kRounding);
    }
    weights[j / T::kGroup] = T::pack(codes);
    if constexpr (T::kWeightShift != 0) weights[j / T::kGroup] = T::shifted(weights[j / T::kGroup]);
  }
  h_.greatest[b] = greatest;
  h_.sums[b] = sum;
}

// m of the lanes' own rows.
template <class T>
inline void Tile<T>::read_offsets(int64_t b) const noexcept {
  const int64_t keys = keys_of(b);
  if (has_rows_)
    read_mask(b);
  else
    std::fill_n(h_.offsets, keys, V{});
  if (!p_.causal) return;
  I query = {};
  for (int64_t l = 0; l < H::kLanes; ++l) query[l] = static_cast<int32_t>(first_ + l - b * kBlock);
  for (int64_t j = 0; j < keys; ++j)
    h_.offsets[j] = query < static_cast<int32_t>(j) ? all<V>(-kInfinity) : h_.offsets[j];
}

template <class T>
inline void Tile<T>::read_mask(int64_t b) const noexcept {
  const int64_t keys = keys_of(b), there = std::min(keys, visible_ - b * kBlock);
  float rows[H::kLanes * kBlock];
  std::fill(rows + count_ * kBlock, rows + H::kLanes * kBlock, 0.0f);
  for (int64_t l = 0; l < count_; ++l) {
    read_row(p_, first_ + l, b * kBlock, there, rows + l * kBlock);
    std::fill_n(rows + l * kBlock + there, keys - there, 0.0f);
  }
  transpose(rows, kBlock, H::kLanes, keys, reinterpret_cast<float*>(h_.offsets), H::kLanes);
}

// Once more, with the greatest x + m alike in the `flat` lanes. Returns the greatest e.
template <class T>
inline typename T::Floats Tile<T>::flatten(I flat, V greatest) const noexcept {
  const auto for_each_block = [&](auto&& body) {
    for (int64_t b = 0; b < blocks_; ++b) {
      const bool has = has_offsets(b);
      if (has) read_offsets(b);
      const float* row = h_.row_offset + b * kBlock;
      body(b, [&, has, row](int64_t n) { return has ? h_.offsets[n] + row[n] : all<V>(row[n]); });
    }
  };
  V seen = all<V>(-kInfinity);
  for_each_block([&](int64_t b, auto&& offset) {
    seen = most(multiply_keys(b, [&](int64_t n, V x) { return x + offset(n); }), seen);
  });
  greatest = flat ? all<V>(-kInfinity) : greatest;
  for_each_block([&](int64_t b, auto&& offset) {
    const float* scale = h_.log_scale + b * kBlock;
    const V top = multiply_keys(b, [&](int64_t n, V x) {
      const V alike = x + offset(n) == seen ? all<V>(scale[n]) : all<V>(-kInfinity);
      return flat ? alike : x + (offset(n) + scale[n]);
    });
    weigh(b, top);
    greatest = most(top, greatest);
  });
  return greatest;
}

// g of each block, in the place of its greatest e. Returns the denominator.
template <class T>
inline typename T::Floats Tile<T>::join_blocks(V greatest) const noexcept {
  V sum = {};
  for (int64_t b = 0; b < blocks_; ++b) {
    const V share = exp2_of(h_.greatest[b] - greatest);
    sum += h_.sums[b] * share;
    h_.greatest[b] = share;
  }
  return sum;
}

template <class T>
inline void Tile<T>::multiply_values(V inverse) const noexcept {
  for (int64_t d = 0; d < h_.panels * kColumns; d += kColumns) {
    V y[kColumns] = {};
    const typename T::Code* codes = h_.value_codes + d * h_.keys;
    for (int64_t b = 0; b < blocks_; ++b) {
      I acc[kColumns] = {};
      if constexpr (T::kWeightShift != 0)
        for (int64_t c = 0; c < kColumns; ++c) acc[c] = I{} + h_.value_start[d * h_.blocks + b * kColumns + c];
      const typename T::Codes* weights = h_.weights + b * H::kBlockSteps;
      const int64_t steps = keys_of(b) / T::kGroup;
      for (int64_t s = 0; s < steps; ++s)
        T::dot(acc, weights[s], codes + (b * H::kBlockSteps + s) * kColumns * T::kGroup);
      for (int64_t c = 0; c < kColumns; ++c) y[c] += converted<V>(acc[c]) * h_.greatest[b];
    }
    for (int64_t c = 0; c < kColumns; ++c) h_.results[d + c] = y[c] * inverse;
  }
}

template <class T>
inline void Tile<T>::write(I hidden, I finite) const noexcept {
  const auto* results = reinterpret_cast<const float*>(h_.results);
  for (int64_t d = 0; d < p_.width; ++d) {
    V& y = h_.results[d];
    y = hidden ? V{} : y;
    y = finite & (y == y) ? y : all<V>(kNaN);
  }
  transpose(results, H::kLanes, p_.width, count_, p_.out + first_ * p_.out_row, p_.out_row);
}

template <class T>
inline int64_t attend(const Piece& piece) noexcept {
  Room room(piece.scratch);
  const Held<T> held(room, piece);
  if (piece.scratch == nullptr) return room.used();
  if (piece.new_keys) prepare_keys(piece, held);
  if (piece.new_keys || piece.new_mask) prepare_offsets(piece, held);
  if (piece.keys == 0 || !*held.finite) {
    for (int64_t i = piece.begin; i < piece.end; ++i)
      std::fill_n(piece.out + i * piece.out_row, piece.width, piece.keys == 0 ? 0.0f : kNaN);
    return room.used();
  }
  for (int64_t i = piece.begin; i < piece.end; i += Held<T>::kLanes) Tile<T>(piece, held, i).run();
  return room.used();
}

}  // namespace
}  // namespace qfx::attention
