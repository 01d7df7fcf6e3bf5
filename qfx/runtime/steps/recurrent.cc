#include "recurrent/recurrent.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

#include "runtime/shapes.h"
#include "runtime/steps/step.h"

namespace qfx {
namespace {

struct CellName {
  const char* op;
  Cell cell;
  int64_t gates;
};
constexpr CellName kCells[] = {
    {"lstm", Cell::lstm, 4}, {"gru", Cell::gru, 3}, {"rnn_tanh", Cell::rnn_tanh, 1}, {"rnn_relu", Cell::rnn_relu, 1}};

// A matrix of weights [rows][features]: s8 with a scale a row, or f16.
struct Matrix {
  int64_t rows = 0, features = 0;
  RowWeights weights;

  Matrix() = default;
  Matrix(const StepView& s, const std::string& name) {
    const Constant* c = s.constant(name.c_str());
    if (c == nullptr) return;
    s.require(c->shape.size() == 2 && element_count(c->shape) > 0, "'" + name + "' is not a matrix");
    rows = c->shape[0];
    features = c->shape[1];
    if (c->dtype == DType::f16) {
      weights.halves = c->as<uint16_t>();
      return;
    }
    weights.codes = c->as<int8_t>();
    weights.scale = s.data<float>((name + "_scale").c_str(), rows);
    weights.zero_point = s.data<int32_t>((name + "_zero_point").c_str(), rows);
    s.require(!weights.scale.empty(), "'" + name + "' has no scale");
    for (const float scale : weights.scale) s.require(std::isfinite(scale), "'" + name + "_scale' is not finite");
  }
};

struct RecurrentParams {
  RecurrentLayer layer;
  int64_t first;
  bool same_state, equal_lengths;

  explicit RecurrentParams(const StepView& s) : first(s.integer("first")), same_state(s.flag("same_state")) {
    const CellName& cell = *std::ranges::find_if(kCells, [&](const CellName& c) { return s.step().op == c.op; });
    const Matrix input(s, "weight_ih"), recurrent(s, "weight_hh");
    const Matrix projection = cell.cell == Cell::lstm ? Matrix(s, "weight_hr") : Matrix();
    layer.cell = cell.cell;
    layer.directions = s.integer("directions");
    layer.per_row = s.flag("per_row");
    s.require(input.rows == recurrent.rows && input.rows % (layer.directions * cell.gates) == 0,
              "the rows of 'weight_ih' and 'weight_hh' are not those of the gates of each direction");
    layer.inputs = input.features;
    layer.hidden = input.rows / (layer.directions * cell.gates);
    s.require(projection.rows % layer.directions == 0, "the rows of 'weight_hr' are not those of each direction");
    layer.projected = projection.rows / layer.directions;
    s.require(projection.rows == 0 || projection.features == layer.hidden,
              "'weight_hr' does not take the hidden features");
    s.require(recurrent.features == layer.state(), "'weight_hh' does not take the features of the hidden state");
    layer.input = input.weights;
    layer.recurrent = recurrent.weights;
    layer.projection = projection.weights;
    layer.input_bias = s.data<float>("bias_ih", input.rows);
    layer.recurrent_bias = s.data<float>("bias_hh", input.rows);
    check_operands(s);
  }

  void check_operands(const StepView& s) {
    equal_lengths = s.input_count() == states() + 1;
    const size_t rank = equal_lengths ? 3 : 2;
    s.require(s.input(0).rank() == rank && s.output(0).rank() == rank,
              equal_lengths ? "without batch sizes, the input and the result are [time, batch, features]"
                            : "with batch sizes, the input and the result are [rows, features]");
    for (size_t i = 1; i <= states(); ++i) {
      s.require(s.input(i).rank() == 3 && s.output(i).rank() == 3, "a state is not [layers, batch, features]");
    }
    s.require(equal_lengths || s.input(states() + 1).rank() == 1, "the batch sizes are not a vector");
  }
  size_t states() const noexcept { return layer.has_cell_state() ? 2 : 1; }

  // Throws std::invalid_argument.
  RecurrentShape shape(const StepShapes& in) const {
    const Dims &x = in.inputs[0], &h = in.inputs[1];
    check(x.back(), layer.inputs, "the input", "features");
    check(h[2], layer.state(), "the hidden state", "features");
    if (layer.has_cell_state()) {
      const Dims& c = in.inputs[2];
      check(c[2], layer.hidden, "the cell state", "features");
      check(c[1], h[1], "the cell state", "sequences");
      check(c[0], h[0], "the cell state", "layers");
    }
    const RecurrentShape shape = equal_lengths ? of_equal_lengths(x, h) : of_packed(x, h, in.inputs.back());
    if (const char* wrong = shape.problem(); wrong != nullptr) throw std::invalid_argument(wrong);
    if (first + layer.directions > shape.total) {
      throw std::invalid_argument("a hidden state for " + std::to_string(shape.total) + " layers and directions");
    }
    return shape;
  }

  RecurrentShape of_packed(const Dims& x, const Dims& h, const Dims& sizes) const {
    if (same_state) throw std::invalid_argument("one state for all sequences is for those of equal lengths");
    return {x[0], sizes[0], h[1], first, h[0], false, false};
  }
  RecurrentShape of_equal_lengths(const Dims& x, const Dims& h) const {
    check(h[1], same_state ? 1 : x[1], "the hidden state", "sequences");
    return {x[0] * x[1], x[0], x[1], first, h[0], true, same_state};
  }

  static void check(int64_t found, int64_t wanted, const char* what, const char* of) {
    if (found != wanted) {
      throw std::invalid_argument(std::string(what) + " has " + std::to_string(found) + " " + of + ", not " +
                                  std::to_string(wanted));
    }
  }
};

class RecurrentStep : public StepKernel {
 public:
  using Params = RecurrentParams;
  static constexpr bool copies_constants = true;
  RecurrentStep(Params params, Isa isa) : p_(std::move(params)), packed_(pack_recurrent(p_.layer, isa)) {}

  size_t packed_bytes() const noexcept override { return packed_->packed_bytes(); }
  Dims shape(const StepShapes& in) const override { return shapes(in)[0]; }
  std::vector<Dims> shapes(const StepShapes& in) const override {
    const RecurrentShape s = p_.shape(in);
    const RecurrentLayer& layer = p_.layer;
    Dims y = in.inputs[0];
    y.back() = layer.directions * layer.state();
    std::vector<Dims> all = {y, {layer.directions, s.batch, layer.state()}};
    if (layer.has_cell_state()) all.push_back({layer.directions, s.batch, layer.hidden});
    return all;
  }
  Planned plan(const StepShapes& in, const Dims&) const override {
    const RecurrentShape s = p_.shape(in);
    return {packed_->plan(s), 0, nullptr, packed_->room(s)};
  }

 private:
  Params p_;
  std::unique_ptr<PackedRecurrent> packed_;
};

}  // namespace

std::vector<KernelRow> recurrent_rows() {
  std::vector<KernelRow> rows;
  for (const CellName& cell : kCells) rows.push_back(kernel_row<RecurrentStep>(cell.op));
  return rows;
}

}  // namespace qfx
