#include <cstring>

#include "fake_quant/rows.h"

namespace qfx::fake_quant {
namespace {

constexpr int64_t kParts = 64;  // partial sums: the same for any number of threads

// The kernel runs only on pieces with something to block, and writes them where they are in cache.
bool all_set(const uint8_t* bits, int64_t n) noexcept {
  int64_t i = 0;
  for (; i + 64 <= n; i += 64) {
    uint64_t word;
    std::memcpy(&word, bits + i / 8, 8);
    if (word != ~uint64_t{0}) return false;
  }
  for (; i < n; ++i)
    if ((bits[i / 8] >> (i % 8) & 1) == 0) return false;
  return true;
}

}  // namespace

void Backward::run(const void* g, const uint8_t* passed, void* gx, int tid, int threads) const noexcept {
  const Rows rows(layout_);
  const Element e = layout_.element;
  const bool stream = gx != g && layout_.count() * 4 >= kStreamBytes;
  const auto mask32 = select<Mask32>(isa_).run;
  const auto mask16 = select<Mask16>(isa_).run;
  const Range part = split(rows.pieces(), tid, threads);
  for (int64_t i = part.begin; i < part.end; ++i) {
    const Piece p = rows.piece(i);
    const uint8_t* const bits = passed + p.bits;
    if (gx == g && all_set(bits, p.n)) continue;
    if (e == Element::f32)
      mask32(static_cast<const uint32_t*>(at(g, p.at, e)), bits, static_cast<uint32_t*>(at(gx, p.at, e)), p.n, stream);
    else
      mask16(static_cast<const uint16_t*>(at(g, p.at, e)), bits, static_cast<uint16_t*>(at(gx, p.at, e)), p.n);
  }
  if (stream) finish_stores();
}

LearnBackward::LearnBackward(const Layout& layout, const Integers& integers, const Gate& gate, const QParamState& state,
                             Isa isa)
    : layout_(layout),
      gate_(gate),
      isa_(isa),
      padded_(padded_channels(layout)),
      parts_(std::clamp<int64_t>(Rows(layout).pieces(), 1, kParts)),
      grids_(place_grids(layout, floats_, doubles_)) {
  if (!fill_grids(layout, integers, state, grids_)) isa_ = Isa::scalar;
  const int64_t sums = Rows(layout).columns ? 3 * padded_ : 3 * kLanes * layout.channels;
  sums_.resize(static_cast<size_t>(parts_ * sums));
}

void LearnBackward::run(const void* x, const void* g, void* gx, int tid, int threads) noexcept {
  const Rows rows(layout_);
  const Halves halves(layout_.element, isa_);
  const auto row = select<Learn>(isa_).run;
  const auto column = select<ColumnLearn>(isa_).run;
  const int64_t per_part = static_cast<int64_t>(sums_.size()) / parts_;
  alignas(64) float given[kPiece], gradient[kPiece];
  const Range mine = split(parts_, tid, threads);
  for (int64_t part = mine.begin; part < mine.end; ++part) {
    double* const sums = sums_.data() + part * per_part;
    const Range pieces = split(rows.pieces(), static_cast<int>(part), static_cast<int>(parts_));
    for (int64_t i = pieces.begin; i < pieces.end; ++i) {
      const Piece p = rows.piece(i);
      const float* const from = halves.read(x, p.at, p.n, given);
      const float* const grad = halves.read(g, p.at, p.n, gradient);
      float* const to = halves.place(gx, p.at, gradient);
      if (rows.columns)
        column(from, grad, to, p.n, grids_from(grids_, p.channel), sums + p.channel, padded_);
      else
        row(from, grad, to, p.n, grid_at(grids_, p.channel), gate_, sums + 3 * kLanes * p.channel);
      halves.write(gx, p.at, p.n, gradient);
    }
  }
}

void LearnBackward::result(double* result) const noexcept {
  const bool columns = Rows(layout_).columns;
  const int64_t per_part = static_cast<int64_t>(sums_.size()) / parts_;
  const int64_t lanes = columns ? 1 : kLanes;
  for (int64_t kind = 0; kind < 3; ++kind)
    for (int64_t c = 0; c < layout_.channels; ++c) {
      double total = 0.0;
      const int64_t first = columns ? kind * padded_ + c : (3 * c + kind) * kLanes;
      for (int64_t part = 0; part < parts_; ++part)
        for (int64_t lane = 0; lane < lanes; ++lane)
          total += sums_[static_cast<size_t>(part * per_part + first + lane)];
      result[kind * layout_.channels + c] = total;
    }
}

}  // namespace qfx::fake_quant
