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
    bounded_ = is_bounded();
    V greatest = all<V>(-kInfinity), seen = greatest;
    Weighing last;
    for (int64_t b = 0; b < blocks_; ++b) {
      const V offsets = has_offsets(b) ? read_offsets(b) : V{};
      h_.skipped[b] = is_hidden(b, offsets, seen);
      if (h_.skipped[b]) continue;
      const V top = score(b, last);
      finish(last);
      last = weighing_of(b, top, last);
      greatest = most(top, greatest);
    }
    finish(last);
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
    int64_t words[sizeof(I) / sizeof(int64_t)], found = 0;
    std::memcpy(words, &lanes, sizeof lanes);
    for (const int64_t word : words) found |= word;
    return found != 0;
  }

  // A block whose weights are being made: those before key `next` are. `half`: of the scores.
  struct Weighing {
    int64_t block = 0, half = 0, keys = 0, next = 0;
    V greatest = {}, sum = {};

    V* scores(const H& h) const noexcept { return h.scores + half * kBlock; }
    V* other_scores(const H& h) const noexcept { return h.scores + (1 - half) * kBlock; }
  };
  // Of the block that was scored beside `last`.
  Weighing weighing_of(int64_t b, V greatest, const Weighing& last) const noexcept {
    Weighing w;
    w.block = b, w.half = 1 - last.half, w.keys = keys_of(b), w.greatest = greatest;
    return w;
  }
  template <int64_t kBeside>
  void weigh(Weighing& w, I (&acc)[kColumns], const typename T::Codes* queries,
             const typename T::Code* keys) const noexcept;
  void finish(Weighing& w) const noexcept;

  template <int64_t kBeside, class Score>
  V multiply_keys(int64_t b, Weighing& last, Score&& score) const noexcept;
  V score(int64_t b, Weighing& last) const noexcept;
  bool is_bounded() const noexcept;
  bool is_hidden(int64_t b, V offsets, V& seen) const noexcept;
  V read_offsets(int64_t b) const noexcept;
  void read_mask(int64_t b) const noexcept;
  V flatten(I flat, V greatest) const noexcept;
  V join_blocks(V greatest) const noexcept;
  void multiply_values(V inverse) const noexcept;
  void write(I hidden, I finite) const noexcept;

  const Piece& p_;
  const H& h_;
  int64_t first_, count_;
  int64_t visible_, blocks_;
  bool has_rows_, bounded_ = false;
  V factor_;
};

// Scores of a block: what `score` makes of each key and its x. Returns the greatest. Weights of the block before are
// made between, whose additions the products leave room for.
template <class T>
template <int64_t kBeside, class Score>
inline typename T::Floats Tile<T>::multiply_keys(int64_t b, Weighing& last, Score&& score) const noexcept {
  const int64_t keys = keys_of(b), panel = kColumns * T::kGroup;
  V greatest = all<V>(-kInfinity);
  V* const scores = last.other_scores(h_);
  for (int64_t n = 0; n < keys; n += kColumns) {
    const int64_t j = b * kBlock + n;
    I acc[kColumns] = {};
    if constexpr (T::kQueryShift != 0)
      for (int64_t c = 0; c < kColumns; ++c) acc[c] = I{} + h_.key_start[j + c];
    const typename T::Code* codes = h_.key_codes + j * h_.steps * T::kGroup;
    int64_t s = 0;
    for (int64_t c = 0; kBeside > 0 && c < kColumns && last.next < last.keys; c += T::kGroup, s += T::kGroup * kBeside)
      weigh<kBeside>(last, acc, h_.queries + s, codes + s * panel);
    for (; s < h_.steps; ++s) T::dot(acc, h_.queries[s], codes + s * panel);
    for (int64_t c = 0; c < kColumns; ++c) {
      const V e = score(n + c, (converted<V>(acc[c]) * h_.key_scale[j + c]) * factor_);
      greatest = most(e, greatest);
      scores[n + c] = e;
    }
  }
  return greatest;
}

// e of a block. Returns the greatest.
template <class T>
inline typename T::Floats Tile<T>::score(int64_t b, Weighing& last) const noexcept {
  const auto with = [&](auto&& score) {
    if constexpr (T::kOverlaps) {
      if (h_.steps >= 2 * kColumns) return multiply_keys<2>(b, last, score);
      if (h_.steps >= kColumns) return multiply_keys<1>(b, last, score);
    }
    return multiply_keys<0>(b, last, score);
  };
  const float* bias = h_.bias + b * kBlock;
  if (!has_offsets(b)) return with([&](int64_t n, V x) { return x + bias[n]; });
  return with([&](int64_t n, V x) { return x + (h_.offsets[n] + bias[n]); });
}

// Weights of the next kGroup keys, and their sum; before each, kBeside steps of sums that need other parts of the CPU.
template <class T>
template <int64_t kBeside>
[[gnu::always_inline]] inline void Tile<T>::weigh(Weighing& w, I (&acc)[kColumns], const typename T::Codes* queries,
                                                  const typename T::Code* keys) const noexcept {
  const float* reciprocal = h_.reciprocal + w.block * kBlock + w.next;
  const V* scores = w.scores(h_) + w.next;
  I codes[T::kGroup];
  V sum = w.sum;
#pragma GCC unroll 4
  for (int64_t k = 0; k < T::kGroup; ++k) {
    if constexpr (kBeside >= 1) T::dot(acc, queries[k * kBeside], keys + k * kBeside * kColumns * T::kGroup);
    if constexpr (kBeside >= 2) T::dot(acc, queries[k * kBeside + 1], keys + (k * kBeside + 1) * kColumns * T::kGroup);
    const V u = exp2_of((scores[k] - w.greatest) + kWeights);
    sum += u * reciprocal[k];
    codes[k] = ints(u + kRounding);
  }
  typename T::Codes& made = h_.weights[w.block * H::kBlockSteps + w.next / T::kGroup];
  made = T::pack(codes);
  if constexpr (T::kWeightShift != 0) made = T::shifted(made);
  w.sum = sum;
  w.next += T::kGroup;
}

template <class T>
inline void Tile<T>::finish(Weighing& w) const noexcept {
  if (w.keys == 0) return;
  I none[kColumns];
  while (w.next < w.keys) weigh<0>(w, none, nullptr, nullptr);
  h_.greatest[w.block] = w.greatest;
  h_.sums[w.block] = w.sum;
}

// Whether every x is small beside what hides a key, and none is NaN.
template <class T>
inline bool Tile<T>::is_bounded() const noexcept {
  if (p_.mask.type == MaskType::none) return false;
  const float sum = static_cast<float>(p_.depth) * (127.0f * 127.0f) * *h_.key_top;
  return sum < 0x1p120f && !any((factor_ * sum > -kSeenAbove) | (factor_ * sum < kSeenAbove));
}

// Whether a block has the factor g = 0, since the mask hides all its keys and leaves each query one of a block before.
// `offsets`: the greatest of the block; `seen`: those of the blocks before.
template <class T>
inline bool Tile<T>::is_hidden(int64_t b, V offsets, V& seen) const noexcept {
  if (!bounded_) return false;
  const V top = has_rows_ ? offsets : all<V>(h_.row_top[b]);
  if (!any((top > all<V>(kFlatBelow)) | (seen < all<V>(kSeenAbove)))) return true;
  if (has_rows_ || !has_offsets(b)) seen = most(top, seen);
  return false;
}

// m of the lanes' own rows. Returns the greatest of each where the mask has rows.
template <class T>
inline typename T::Floats Tile<T>::read_offsets(int64_t b) const noexcept {
  const int64_t keys = keys_of(b);
  if (has_rows_)
    read_mask(b);
  else
    std::fill_n(h_.offsets, keys, V{});
  if (p_.causal) {
    I query = {};
    for (int64_t l = 0; l < H::kLanes; ++l) query[l] = static_cast<int32_t>(first_ + l - b * kBlock);
    for (int64_t j = 0; j < keys; ++j)
      h_.offsets[j] = query < static_cast<int32_t>(j) ? all<V>(-kInfinity) : h_.offsets[j];
  }
  V top = all<V>(-kInfinity);
  for (int64_t j = 0; has_rows_ && j < keys; ++j) top = most(h_.offsets[j], top);
  return top;
}

template <class T>
inline void Tile<T>::read_mask(int64_t b) const noexcept {
  const int64_t keys = keys_of(b), there = std::min(keys, visible_ - b * kBlock);
  if (p_.mask.type == MaskType::additive && p_.mask.column == 1 && count_ == H::kLanes && there == keys) {
    const float* at = static_cast<const float*>(p_.mask.at) + first_ * p_.mask.row + b * kBlock;
    for (int64_t j = 0; j < keys; j += 4) {
      V columns[4];
      load_columns(at + j, p_.mask.row, columns);
      for (int64_t i = 0; i < 4; ++i) h_.offsets[j + i] = mask_offset(columns[i]);
    }
    return;
  }
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
  Weighing none;
  for_each_block([&](int64_t b, auto&& offset) {
    seen = most(multiply_keys<0>(b, none, [&](int64_t n, V x) { return x + offset(n); }), seen);
  });
  greatest = flat ? all<V>(-kInfinity) : greatest;
  for_each_block([&](int64_t b, auto&& offset) {
    const float* scale = h_.log_scale + b * kBlock;
    const V top = multiply_keys<0>(b, none, [&](int64_t n, V x) {
      const V alike = x + offset(n) == seen ? all<V>(scale[n]) : all<V>(-kInfinity);
      return flat ? alike : x + (offset(n) + scale[n]);
    });
    Weighing w = weighing_of(b, top, none);
    finish(w);
    greatest = most(top, greatest);
  });
  return greatest;
}

// g of each block, in the place of its greatest e. Returns the denominator.
template <class T>
inline typename T::Floats Tile<T>::join_blocks(V greatest) const noexcept {
  V sum = {};
  for (int64_t b = 0; b < blocks_; ++b) {
    if (h_.skipped[b]) continue;
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
      if (h_.skipped[b]) continue;
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
  float* to = p_.out + first_ * p_.out_row;
  for (int64_t d = 0; d < p_.width; ++d) {
    V& y = h_.results[d];
    y = hidden ? V{} : y;
    y = finite & (y == y) ? y : all<V>(kNaN);
  }
  if (count_ < H::kLanes || p_.width % 4 != 0) return transpose(results, H::kLanes, p_.width, count_, to, p_.out_row);
  for (int64_t d = 0; d < p_.width; d += 4) {
    const V* y = h_.results + d;
    V columns[4] = {y[0], y[1], y[2], y[3]};
    store_columns(to + d, p_.out_row, columns);
  }
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
