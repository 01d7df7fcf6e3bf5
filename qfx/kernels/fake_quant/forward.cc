#include <cmath>

#include "fake_quant/rows.h"
#include "fake_quant/statistics.h"

namespace qfx::fake_quant {
namespace {

constexpr int64_t kValuesPerThread = 16384;  // below, waking a thread costs more than it helps
constexpr float kInf = std::numeric_limits<float>::infinity();

float clamped(float v, const Gate& gate) noexcept {
  return std::min(std::max(v, gate.lo), gate.hi);
}

}  // namespace

Grid Grid::of(float scale, int32_t zero_point, int32_t qmin, int32_t qmax) noexcept {
  const double reciprocal = 1.0 / static_cast<double>(scale);
  return {scale, static_cast<float>(reciprocal), reciprocal, static_cast<float>(qmin - zero_point),
          static_cast<float>(qmax - zero_point)};
}

bool Grid::vectorizable() const noexcept {
  return scale >= 0x1p-100f && scale <= 0x1p100f && lowest >= -255.0f && highest <= 255.0f && lowest <= highest;
}

Grids place_grids(const Layout& layout, std::vector<float>& floats, std::vector<double>& doubles) {
  const int64_t c = padded_channels(layout);
  floats.resize(static_cast<size_t>(4 * c));
  doubles.resize(static_cast<size_t>(c));
  float* const f = floats.data();
  return {f, f + c, doubles.data(), f + 2 * c, f + 3 * c};
}

bool fill_grids(const Layout& layout, const Integers& integers, const QParamState& state, Grids& grids) noexcept {
  bool vectorizable = true;
  for (int64_t c = 0; c < padded_channels(layout); ++c) {
    const int64_t from = std::min(c, layout.channels - 1);
    const Grid g = Grid::of(state.scale[from], state.zero_point[from], integers.lowest, integers.highest);
    grids.scale[c] = g.scale;
    grids.reciprocal[c] = g.reciprocal;
    grids.reciprocal64[c] = g.reciprocal64;
    grids.lowest[c] = g.lowest;
    grids.highest[c] = g.highest;
    vectorizable = vectorizable && g.vectorizable();
  }
  return vectorizable;
}

int64_t Layout::mask_bytes() const noexcept {
  const Rows rows(*this);
  return rows.rows * rows.row_bytes;
}

int Layout::useful_threads(int threads) const noexcept {
  return static_cast<int>(std::clamp<int64_t>(count() / kValuesPerThread, 1, std::max(threads, 1)));
}

Scan::Scan(const Layout& layout, Isa isa, int threads)
    : layout_(layout),
      padded_(padded_channels(layout)),
      extremes_(static_cast<size_t>(2 * padded_ * threads)),
      numbers_(static_cast<size_t>(threads), 1),
      isa_(isa) {}

void Scan::run(const void* x, int tid, int threads) noexcept {
  const Rows rows(layout_);
  const Halves halves(layout_.element, isa_);
  const auto row = select<Extremes>(isa_).run;
  const auto column = select<ColumnExtremes>(isa_).run;
  float* const low = extremes_.data() + 2 * padded_ * tid;
  float* const high = low + padded_;
  std::fill_n(low, padded_, kInf);
  std::fill_n(high, padded_, -kInf);
  alignas(64) float buffer[kPiece];
  bool numbers = true;
  const Range part = split(rows.pieces(), tid, threads);
  for (int64_t i = part.begin; i < part.end; ++i) {
    const Piece p = rows.piece(i);
    const float* const from = halves.read(x, p.at, p.n, buffer);
    const bool here = rows.columns ? column(from, 1, p.n, low + p.channel, high + p.channel)
                                   : row(from, p.n, low + p.channel, high + p.channel);
    numbers = numbers && here;
  }
  numbers_[static_cast<size_t>(tid)] = numbers ? 1 : 0;
}

bool Scan::result(int threads, float* low, float* high) const noexcept {
  bool finite = true;
  for (int t = 0; t < threads; ++t) finite = finite && numbers_[static_cast<size_t>(t)] != 0;
  for (int64_t c = 0; c < layout_.channels; ++c) {
    float lowest = kInf, highest = -kInf;
    for (int t = 0; t < threads; ++t) {
      lowest = std::min(lowest, extremes_[static_cast<size_t>(2 * padded_ * t + c)]);
      highest = std::max(highest, extremes_[static_cast<size_t>(2 * padded_ * t + padded_ + c)]);
    }
    // Which of two zeros comes first depends on the kernel.
    low[c] = lowest + 0.0f;
    high[c] = highest + 0.0f;
    finite = finite && std::isfinite(low[c]) && std::isfinite(high[c]);
  }
  return finite;
}

Forward::Forward(const Layout& layout, const Integers& integers, const Gate& gate, const QParamState& state,
                 const Statistics* statistics, const float* extremes, Isa isa, int threads)
    : layout_(layout),
      integers_(integers),
      gate_(gate),
      state_(state),
      statistics_(statistics),
      extremes_(extremes),
      isa_(isa),
      scan_(layout, isa, statistics != nullptr && extremes == nullptr ? threads : 0),
      low_(static_cast<size_t>(statistics != nullptr ? layout.channels : 0)),
      high_(low_.size()),
      grids_(place_grids(layout, floats_, doubles_)),
      all_(static_cast<size_t>(threads), 1) {
  if (statistics == nullptr) make_grids();
}

void Forward::make_grids() noexcept {
  if (!fill_grids(layout_, integers_, state_, grids_)) isa_ = Isa::scalar;
}

void Forward::update(int threads) noexcept {
  if (extremes_ == nullptr) {
    finite_ = scan_.result(threads, low_.data(), high_.data());
  } else {
    std::copy_n(extremes_, layout_.channels, low_.data());
    std::copy_n(extremes_ + layout_.channels, layout_.channels, high_.data());
    for (size_t c = 0; c < low_.size(); ++c) finite_ = finite_ && std::isfinite(low_[c]) && std::isfinite(high_[c]);
  }
  if (!finite_) return;
  for (int64_t c = 0; c < layout_.channels; ++c) {
    const auto i = static_cast<size_t>(c);
    observe(*statistics_, integers_, c, clamped(low_[i], gate_), clamped(high_[i], gate_), state_);
  }
  make_grids();
}

void Forward::run(const void* x, void* y, uint8_t* passed, int tid, int threads, Meeting& meeting) noexcept {
  if (statistics_ != nullptr) {
    if (extremes_ == nullptr) scan_.run(x, tid, threads);
    if (threads > 1) meeting.wait(threads);
    if (tid == 0) update(threads);
    if (threads > 1) meeting.wait(threads);
  }
  if (!finite_ || y == nullptr) return;
  const bool stream = y != x && layout_.count() * 4 >= kStreamBytes;
  const Rows rows(layout_);
  const Halves halves(layout_.element, isa_);
  const auto row = select<Quantize>(isa_).run;
  const auto column = select<ColumnQuantize>(isa_).run;
  alignas(64) float buffer[kPiece];
  bool all = true;
  const Range part = split(rows.pieces(), tid, threads);
  // Backwards: what the scan read last is still in cache.
  for (int64_t i = part.end; i-- > part.begin;) {
    const Piece p = rows.piece(i);
    const float* const from = halves.read(x, p.at, p.n, buffer);
    float* const to = halves.place(y, p.at, buffer);
    uint8_t* const bits = passed == nullptr ? nullptr : passed + p.bits;
    const bool here = rows.columns ? column(from, to, bits, p.n, grids_from(grids_, p.channel), gate_)
                                   : row(from, to, bits, p.n, grid_at(grids_, p.channel), gate_, stream);
    halves.write(y, p.at, p.n, buffer);
    all = all && here;
  }
  if (stream) finish_stores();
  all_[static_cast<size_t>(tid)] = all ? 1 : 0;
}

Outcome Forward::outcome() const noexcept {
  if (!finite_) return Outcome::not_finite;
  for (const char all : all_)
    if (all == 0) return Outcome::some_blocked;
  return Outcome::all_passed;
}

}  // namespace qfx::fake_quant
