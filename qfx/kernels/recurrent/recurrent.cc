#include "recurrent/recurrent.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "core/split.h"
#include "recurrent/panels.h"

namespace qfx {
namespace {

using namespace recurrent;

constexpr int64_t kChunkRows = 32;   // rows whose input is projected at a time, of several time steps if they fit
constexpr int64_t kStepRows = 128;   // at most, where a time step has more
constexpr int64_t kGates = 1 << 18;  // floats in which a thread keeps projected gates; a row of all gates fits
constexpr int64_t kBlockRows = 32;   // rows that share one pass over a panel of recurrent weights
constexpr int64_t kApart = 16;       // floats between rows of results, which must not lie a power of two apart
constexpr int64_t kRoom = kBlockRows * kVectors * kLanes;  // floats for a block of a panel
constexpr int64_t kMeetingCost = 4;  // a meeting pays if each thread has this many times the least work of a barrier

int gates_of(Cell cell) noexcept {
  return cell == Cell::lstm ? 4 : (cell == Cell::gru ? 3 : 1);
}
bool gated(Cell cell) noexcept {
  return cell == Cell::lstm || cell == Cell::gru;
}

Kernel<Lstm> select_cell(Cell cell, Isa isa) noexcept {
  const auto as_cell = [](const auto& kernel) { return Kernel<Lstm>{kernel.run, kernel.name, kernel.isa}; };
  switch (cell) {
    case Cell::lstm:
      return select<Lstm>(isa);
    case Cell::gru:
      return as_cell(select<Gru>(isa));
    case Cell::rnn_tanh:
      return as_cell(select<RnnTanh>(isa));
    default:
      return as_cell(select<RnnRelu>(isa));
  }
}

template <class T>
std::span<const T> part(std::span<const T> all, int64_t count, int64_t index) {
  if (all.empty()) return all;
  return all.subspan(static_cast<size_t>(count * index), static_cast<size_t>(count));
}

RowWeights part(const RowWeights& w, int64_t rows, int64_t features, int64_t direction) {
  return {part(w.codes, rows * features, direction), part(w.scale, rows, direction),
          part(w.zero_point, rows, direction), part(w.halves, rows * features, direction)};
}

// The weights of one direction.
struct Direction {
  PanelMatrix input, recurrent;
  std::unique_ptr<PanelMatrix> projection;
};

class Packed final : public PackedRecurrent {
 public:
  Packed(const RecurrentLayer& layer, Isa isa)
      : cell(layer.cell),
        inputs(layer.inputs),
        hidden(layer.hidden),
        projected(layer.projected),
        state(layer.state()),
        per_row(layer.per_row),
        units(gated(layer.cell) ? kLanes : kVectors * kLanes),
        kernel(select_cell(layer.cell, isa)) {
    check(layer);
    for (int64_t d = 0; d < layer.directions; ++d) directions.push_back(pack(layer, d, isa));
  }

  // The states before projection.
  int64_t room(const RecurrentShape& s) const noexcept override {
    const auto d = static_cast<int64_t>(directions.size());
    return projected > 0 ? d * s.batch * hidden * static_cast<int64_t>(sizeof(float)) : 0;
  }
  std::unique_ptr<Work> plan(const RecurrentShape& shape) const override;
  size_t packed_bytes() const noexcept override {
    size_t bytes = 0;
    for (const Direction& d : directions) {
      bytes += d.input.packed_bytes() + d.recurrent.packed_bytes();
      if (d.projection != nullptr) bytes += d.projection->packed_bytes();
    }
    return bytes;
  }

  int64_t panels() const noexcept { return directions[0].recurrent.panels(); }
  int64_t projection_panels() const noexcept { return projected > 0 ? directions[0].projection->panels() : 0; }

  Cell cell;
  int64_t inputs, hidden, projected, state;
  bool per_row;
  int64_t units;
  Kernel<Lstm> kernel;
  std::vector<Direction> directions;

 private:
  static void check(const RecurrentLayer& l) {
    if (l.directions < 1 || l.directions > 2 || l.inputs < 1 || l.hidden < 1 || l.projected < 0)
      throw std::invalid_argument("a size of the layer that is not positive, or more than two directions");
    if (l.projected > 0 && l.cell != Cell::lstm) throw std::invalid_argument("only an lstm can be projected");
    const int64_t rows = l.directions * gates_of(l.cell) * l.hidden;
    for (const auto& bias : {l.input_bias, l.recurrent_bias})
      if (!bias.empty() && static_cast<int64_t>(bias.size()) != rows)
        throw std::invalid_argument("a bias of another size than the layer");
    const auto fits = [](const RowWeights& w, int64_t n, int64_t k) {
      return static_cast<int64_t>(w.codes.size() + w.halves.size()) == n * k &&
             (w.codes.empty() || static_cast<int64_t>(w.scale.size()) == n) &&
             (w.zero_point.empty() || static_cast<int64_t>(w.zero_point.size()) == n);
    };
    if (!fits(l.input, rows, l.inputs) || !fits(l.recurrent, rows, l.state()) ||
        !fits(l.projection, l.directions * l.projected, l.projected > 0 ? l.hidden : 0))
      throw std::invalid_argument("weights of another size than the layer");
  }

  Direction pack(const RecurrentLayer& l, int64_t d, Isa isa) const {
    const int64_t gates = gates_of(cell), rows = gates * hidden, panels = ceil_div(hidden, units);
    const int64_t columns = gates * units;
    const auto row_of = [this](int64_t panel, int64_t column) {
      const int64_t unit = panel * units + column % units;
      return unit < hidden ? column / units * hidden + unit : -1;
    };
    const auto bias_of = [](std::span<const float> bias, bool wanted, int64_t row) {
      return wanted && !bias.empty() ? bias[static_cast<size_t>(row)] : 0.0f;
    };
    // gru multiplies the hidden state's share of its last gate, bias included.
    const auto apart = [this](int64_t row) { return cell == Cell::gru && row >= 2 * hidden; };
    const auto own = part(l.input_bias, rows, d), other = part(l.recurrent_bias, rows, d);
    PanelMatrix input(part(l.input, rows, inputs, d), rows, inputs, panels, columns, row_of,
                      {[=](int64_t row) { return bias_of(own, true, row); },
                       [=](int64_t row) { return bias_of(other, !apart(row), row); }},
                      isa);
    PanelMatrix recurrent(part(l.recurrent, rows, state, d), rows, state, panels, columns, row_of,
                          {[=](int64_t row) { return bias_of(other, apart(row), row); }}, isa);
    std::unique_ptr<PanelMatrix> projection;
    if (projected > 0) {
      const int64_t width = std::min(kVectors, (projected + kLanes - 1) / kLanes) * kLanes;
      projection = std::make_unique<PanelMatrix>(
          part(l.projection, projected, hidden, d), projected, hidden, ceil_div(projected, width), width,
          [this, width](int64_t panel, int64_t column) {
            const int64_t row = panel * width + column;
            return row < projected ? row : -1;
          },
          std::vector<std::function<float(int64_t)>>{}, isa);
    }
    return {std::move(input), std::move(recurrent), std::move(projection)};
  }
};

class Thread;

class RecurrentWork final : public Work {
 public:
  RecurrentWork(const Packed& packed, const RecurrentShape& shape)
      : packed_(packed), shape_(shape), most_rows_(std::clamp(shape.batch, kChunkRows, kStepRows)) {
    const Direction& d = packed.directions[0];
    offsets_bytes_ = static_cast<size_t>(in_lines((shape.steps + 1) * static_cast<int64_t>(sizeof(int64_t))));
    operand_bytes_ = std::max(d.input.operand_bytes(most_rows_), d.recurrent.operand_bytes(most_rows_));
    if (d.projection != nullptr) operand_bytes_ = std::max(operand_bytes_, d.projection->operand_bytes(most_rows_));
    const int64_t row = directions() * packed.panels() * d.input.columns() + kApart;
    gates_floats_ = std::max(row, std::min(row * most_rows_, kGates));
  }

  void run(const void* const* in, void* const* out, std::byte* scratch, int tid, int) const noexcept override;
  void run_together(const void* const* in, void* const* out, std::byte* scratch, int tid, int threads,
                    Meeting& meeting) const noexcept override;
  bool meets() const noexcept override { return true; }

  size_t scratch_bytes() const noexcept override {
    const auto floats = static_cast<size_t>(gates_floats_ + 3 * kRoom);
    return offsets_bytes_ + operand_bytes_ + floats * sizeof(float);
  }

  int64_t cost() const noexcept override {
    const int64_t gates = gates_of(packed_.cell) * packed_.hidden;
    const int64_t step =
        shape_.batch * directions() * (gates * (packed_.inputs + packed_.state) + packed_.projected * packed_.hidden);
    return std::max<int64_t>(1, step / kMeetingCost);
  }

  int64_t products() const noexcept override {
    if (packed_.directions[0].input.half()) return 0;
    const int64_t gates = gates_of(packed_.cell) * packed_.hidden;
    return shape_.rows * directions() * (gates * (packed_.inputs + packed_.state) + packed_.projected * packed_.hidden);
  }

  std::vector<const char*> kernels() const override {
    const Direction& d = packed_.directions[0];
    std::vector<const char*> names = {packed_.kernel.name};
    d.recurrent.add_kernels(names);
    if (d.input.half() != d.recurrent.half()) d.input.add_kernels(names);
    return names;
  }

 private:
  friend class Thread;

  int64_t directions() const noexcept { return static_cast<int64_t>(packed_.directions.size()); }

  const Packed& packed_;
  RecurrentShape shape_;
  int64_t most_rows_, gates_floats_;
  size_t offsets_bytes_, operand_bytes_;
};

// One thread's part of a call: panels of hidden units (and of the projection), at every time step.
class Thread {
 public:
  Thread(const RecurrentWork& work, const void* const* in, void* const* out, std::byte* scratch, int tid, int team,
         Meeting* meeting) noexcept
      : w_(work.packed_), s_(work.shape_), directions_(work.directions()), meeting_(meeting), team_(team) {
    const bool lstm = w_.cell == Cell::lstm;
    x_ = static_cast<const float*>(in[0]);
    h0_ = static_cast<const float*>(in[1]);
    c0_ = lstm ? static_cast<const float*>(in[2]) : nullptr;
    sizes_ = s_.equal_lengths ? nullptr : static_cast<const int64_t*>(in[lstm ? 3 : 2]);
    y_ = static_cast<float*>(out[0]);
    y_stride_ = directions_ * w_.state;
    h_last_ = static_cast<float*>(out[1]);
    c_ = lstm ? static_cast<float*>(out[2]) : nullptr;
    raw_ = w_.projected > 0 ? static_cast<float*>(out[3]) : nullptr;
    offsets_ = reinterpret_cast<int64_t*>(scratch);
    room_ = scratch + work.offsets_bytes_;
    gates_ = reinterpret_cast<float*>(room_ + work.operand_bytes_);
    recurrent_ = gates_ + work.gates_floats_;
    state_ = recurrent_ + kRoom;
    hidden_ = state_ + kRoom;
    own_ = split(directions_ * w_.panels(), tid, team);
    own_projection_ = split(directions_ * w_.projection_panels(), tid, team);
    gates_row_ = (own_.end - own_.begin) * w_.directions[0].input.columns() + kApart;
    chunk_ = std::clamp(work.gates_floats_ / gates_row_, int64_t{1}, work.most_rows_);
    first_ = tid == 0;
  }

  void run() noexcept {
    if (!find_offsets()) {
      if (first_) fill_with_nan();
      return;
    }
    for (int64_t d = 0; d < directions_; ++d)
      if (c0_ != nullptr) start_cell_state(d);
    const PanelMatrix& input = w_.directions[0].input;
    x_affine_ = affine(input, {x_, w_.inputs, s_.rows}, s_.rows);
    for (int64_t step = 0; step < s_.steps; ++step) {
      for (int64_t d = 0; d < directions_; ++d) advance(d, step);
      if (w_.projected > 0) {
        meet();
        for (int64_t d = 0; d < directions_; ++d) project(d, step);
      }
      if (step + 1 < s_.steps) meet();
    }
    for (int64_t d = 0; d < directions_; ++d) finish_state(d);
  }

 private:
  void fill_with_nan() noexcept {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    const int64_t states = directions_ * s_.batch;
    std::fill_n(y_, s_.rows * y_stride_, nan);
    std::fill_n(h_last_, states * w_.state, nan);
    if (c_ != nullptr) std::fill_n(c_, states * w_.hidden, nan);
  }

  // Threads that own whole directions need nothing from one another.
  void meet() noexcept {
    if (team_ > 1 && team_ != directions_) meeting_->wait(team_);
  }

  // The first row of each time step. False for sizes that are no packing of the rows.
  bool find_offsets() noexcept {
    int64_t row = 0, last = s_.batch;
    for (int64_t t = 0; t < s_.steps; ++t) {
      const int64_t size = sizes_ == nullptr ? s_.batch : sizes_[t];
      if (size < 1 || size > last || (t == 0 && size != s_.batch)) return false;
      last = size;
      offsets_[t] = row;
      row += last;
    }
    offsets_[s_.steps] = row;
    return row == s_.rows;
  }

  int64_t size(int64_t t) const noexcept { return offsets_[t + 1] - offsets_[t]; }
  int64_t time(int64_t d, int64_t step) const noexcept { return d == 0 ? step : s_.steps - 1 - step; }

  // The thread's panels of one direction.
  static Range within(Range own, int64_t panels, int64_t d) noexcept {
    const int64_t begin = std::clamp(own.begin - d * panels, int64_t{0}, panels);
    return {begin, std::clamp(own.end - d * panels, begin, panels)};
  }
  Range panels(int64_t d) const noexcept { return within(own_, w_.panels(), d); }
  Range projection_panels(int64_t d) const noexcept { return within(own_projection_, w_.projection_panels(), d); }
  // Of the hidden units.
  Range columns(int64_t d) const noexcept {
    const Range p = panels(d);
    return {p.begin * w_.units, std::min(p.end * w_.units, w_.hidden)};
  }

  void start_cell_state(int64_t d) noexcept {
    const Range own = columns(d);
    for (int64_t b = 0; b < s_.batch; ++b) {
      const float* from = given(c0_, d, w_.hidden) + (s_.same_state ? 0 : b * w_.hidden);
      if (own.begin < own.end) std::copy(from + own.begin, from + own.end, cell_state(d, b) + own.begin);
    }
  }
  float* cell_state(int64_t d, int64_t b) const noexcept { return c_ + (d * s_.batch + b) * w_.hidden; }
  float* raw(int64_t d, int64_t b) const noexcept { return raw_ + (d * s_.batch + b) * w_.hidden; }
  float* y(int64_t d, int64_t row) const noexcept { return y_ + row * y_stride_ + d * w_.state; }

  // The hidden state before a step: y of the step before, and the given one for sequences that begin here.
  Rows before(int64_t d, int64_t step) const noexcept {
    const float* first = given(h0_, d, w_.state);
    const int64_t apart = s_.same_state ? 0 : w_.state;
    if (step == 0) return {first, apart, s_.batch};
    const int64_t t = time(d, step - 1);
    return {y(d, offsets_[t]), y_stride_, size(t), first, apart};
  }
  // The given states of a direction.
  const float* given(const float* states, int64_t d, int64_t features) const noexcept {
    return states + (s_.first + d) * (s_.same_state ? 1 : s_.batch) * features;
  }

  // The input's share of the gates for time steps from `step` on, as many as fit.
  void project_steps(int64_t d, int64_t step) noexcept {
    int64_t end = step, rows = 0;
    while (end < s_.steps && rows + size(time(d, end)) <= chunk_) rows += size(time(d, end++));
    chunk_end_[d] = end;
    project_rows(d, offsets_[std::min(time(d, step), time(d, end - 1))], rows);
  }
  void project_rows(int64_t d, int64_t row, int64_t rows) noexcept {
    chunk_row_[d] = row;
    const PanelMatrix& input = w_.directions[static_cast<size_t>(d)].input;
    const Rows x{x_ + row * w_.inputs, w_.inputs, rows};
    const Operand operand = input.operand(x, rows, x_affine_, room_);
    const Range own = panels(d);
    PanelProduct product(input, operand, gates_row_);
    for (int64_t p = own.begin; p < own.end; ++p) product.run(p, 0, rows, gates(d, p, 0));
  }
  // A row's gates, as project_rows() left them.
  float* gates(int64_t d, int64_t panel, int64_t row) const noexcept {
    const int64_t columns = w_.directions[0].input.columns();
    return gates_ + row * gates_row_ + (d * w_.panels() + panel - own_.begin) * columns;
  }

  // What all rows are quantized by; none where each has its own.
  std::optional<Affine> affine(const PanelMatrix& matrix, const Rows& x, int64_t n) const noexcept {
    if (w_.per_row) return std::nullopt;
    return matrix.affine(x, n);
  }

  void advance(int64_t d, int64_t step) noexcept {
    const Range own = panels(d);
    if (own.begin == own.end) return;
    const int64_t t = time(d, step), n = size(t);
    const Rows h = before(d, step);
    const auto of_all = affine(w_.directions[static_cast<size_t>(d)].recurrent, h, n);
    if (n <= chunk_) {
      if (step >= chunk_end_[d]) project_steps(d, step);
      return advance_rows(d, step, 0, n, h, of_all);
    }
    for (int64_t r = 0; r < n; r += chunk_) {
      const int64_t rows = std::min(chunk_, n - r);
      project_rows(d, offsets_[t] + r, rows);
      advance_rows(d, step, r, rows, h, of_all);
    }
  }

  // Sequences [first, first + n) by one time step; their gates are projected.
  void advance_rows(int64_t d, int64_t step, int64_t first, int64_t n, const Rows& h,
                    const std::optional<Affine>& of_all) noexcept {
    const Range own = panels(d);
    const int64_t t = time(d, step);
    const PanelMatrix& recurrent = w_.directions[static_cast<size_t>(d)].recurrent;
    const Operand operand = recurrent.operand(h.from(first), n, of_all, room_);
    PanelProduct product(recurrent, operand, recurrent.columns());
    // Products of as many panels as there is room for, then their cells, which do not wait for one another. There and
    // back: a step begins with the panel that the last one left in L1.
    const bool back = step % 2 != 0;
    const int64_t room = std::min(kBlockRows, n) * recurrent.columns(), most = kRoom / room;
    for (int64_t i = own.begin; i < own.end; i += most) {
      const int64_t count = std::min(most, own.end - i);
      const auto panel = [&](int64_t j) { return back ? own.begin + own.end - 1 - i - j : i + j; };
      for (int64_t r = 0; r < n; r += kBlockRows) {
        const int64_t rows = std::min(kBlockRows, n - r);
        for (int64_t j = 0; j < count; ++j) product.run(panel(j), r, rows, recurrent_ + j * room);
        for (int64_t j = 0; j < count; ++j) run_cell(d, panel(j), t, first + r, rows, h, recurrent_ + j * room);
      }
    }
  }

  void run_cell(int64_t d, int64_t panel, int64_t t, int64_t r, int64_t rows, const Rows& h,
                const float* from_state) noexcept {
    const int64_t unit = panel * w_.units, columns = w_.directions[0].recurrent.columns();
    const int64_t n = std::min(w_.units, w_.hidden - unit);
    const bool whole = n == w_.units, lstm = w_.cell == Cell::lstm;
    float* to = (w_.projected > 0 ? raw(d, r) : y(d, offsets_[t] + r)) + unit;
    const int64_t to_stride = w_.projected > 0 ? w_.hidden : y_stride_;
    float* state = lstm ? cell_state(d, r) + unit : nullptr;
    CellBlock block{gates(d, panel, offsets_[t] + r - chunk_row_[d]),
                    gates_row_,
                    from_state,
                    columns,
                    state_,
                    w_.units,
                    hidden_,
                    w_.units,
                    rows};
    if (whole) block.y = to, block.y_stride = to_stride;
    if (lstm && whole) block.state = state, block.state_stride = w_.hidden;
    if (lstm && !whole) copy(state, w_.hidden, state_, w_.units, rows, n);
    if (w_.cell == Cell::gru)
      for (int64_t i = 0; i < rows; ++i) copy(h[r + i] + unit, 0, state_ + i * w_.units, 0, 1, n);
    w_.kernel.run(block);
    if (!whole) copy(hidden_, w_.units, to, to_stride, rows, n);
    if (lstm && !whole) copy(state_, w_.units, state, w_.hidden, rows, n);
  }

  static void copy(const float* from, int64_t from_stride, float* to, int64_t to_stride, int64_t rows,
                   int64_t n) noexcept {
    for (int64_t r = 0; r < rows; ++r) std::copy_n(from + r * from_stride, n, to + r * to_stride);
  }

  void project(int64_t d, int64_t step) noexcept {
    const Range own = projection_panels(d);
    if (own.begin == own.end) return;
    const int64_t t = time(d, step), n = size(t);
    const PanelMatrix& projection = *w_.directions[static_cast<size_t>(d)].projection;
    const Rows h{raw(d, 0), w_.hidden, n};
    const auto of_all = affine(projection, h, n);
    for (int64_t first = 0; first < n; first += kBlockRows) {
      const int64_t rows = std::min(kBlockRows, n - first);
      const Operand operand = projection.operand(h.from(first), rows, of_all, room_);
      PanelProduct product(projection, operand, projection.columns());
      for (int64_t p = own.begin; p < own.end; ++p) {
        const int64_t feature = p * projection.columns();
        product.run(p, 0, rows, recurrent_);
        copy(recurrent_, projection.columns(), y(d, offsets_[t] + first) + feature, y_stride_, rows,
             std::min(projection.columns(), w_.projected - feature));
      }
    }
  }

  // Each sequence's hidden state after its last time step.
  void finish_state(int64_t d) noexcept {
    Range own = columns(d);
    if (w_.projected > 0) {
      const Range p = projection_panels(d);
      const int64_t width = w_.directions[0].projection->columns();
      own = {p.begin * width, std::min(p.end * width, w_.projected)};
    }
    if (own.begin >= own.end) return;
    for (int64_t t = 0; t < s_.steps; ++t) {
      const int64_t next = t + 1 < s_.steps ? size(t + 1) : 0;
      for (int64_t b = next; b < size(t); ++b) {
        const float* from = y(d, (d == 0 ? offsets_[t] : 0) + b);
        std::copy(from + own.begin, from + own.end, h_last_ + (d * s_.batch + b) * w_.state + own.begin);
      }
    }
  }

  const Packed& w_;
  const RecurrentShape& s_;
  int64_t directions_, chunk_, gates_row_;
  Meeting* meeting_;
  int team_;
  bool first_;
  const float *x_, *h0_, *c0_;
  const int64_t* sizes_;
  float *y_, *h_last_, *c_, *raw_;
  int64_t y_stride_;
  int64_t* offsets_;
  std::byte* room_;
  float *gates_, *recurrent_, *state_, *hidden_;
  Range own_, own_projection_;
  std::optional<Affine> x_affine_;
  int64_t chunk_end_[2] = {0, 0}, chunk_row_[2] = {0, 0};
};

void RecurrentWork::run(const void* const* in, void* const* out, std::byte* scratch, int tid, int) const noexcept {
  if (tid == 0 && shape_.rows > 0) Thread(*this, in, out, scratch, 0, 1, nullptr).run();
}

void RecurrentWork::run_together(const void* const* in, void* const* out, std::byte* scratch, int tid, int threads,
                                 Meeting& meeting) const noexcept {
  const int team = static_cast<int>(std::min<int64_t>(threads, directions() * packed_.panels()));
  if (tid < team && shape_.rows > 0) Thread(*this, in, out, scratch, tid, team, &meeting).run();
}

std::unique_ptr<Work> Packed::plan(const RecurrentShape& s) const {
  const auto count = static_cast<int64_t>(directions.size());
  if (const char* wrong = s.problem(); wrong != nullptr) throw std::invalid_argument(wrong);
  if (s.first < 0 || s.first + count > s.total) throw std::invalid_argument("no hidden state for this layer");
  return std::make_unique<RecurrentWork>(*this, s);
}

}  // namespace

std::unique_ptr<PackedRecurrent> pack_recurrent(const RecurrentLayer& layer, Isa isa) {
  return std::make_unique<Packed>(layer, isa);
}

}  // namespace qfx
