#pragma once
#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>

#include "core/isa.h"
#include "core/work.h"

namespace qfx {

enum class Cell : int { lstm, gru, rnn_tanh, rnn_relu };

// Rows of weights: int8 codes with one scale (and zero point, unless all are 0) a row, or float16.
struct RowWeights {
  std::span<const int8_t> codes;
  std::span<const float> scale;
  std::span<const int32_t> zero_point;
  std::span<const uint16_t> halves;  // IEEE binary16
};

// One layer, in one direction or two. Weights and biases of both directions follow one another.
struct RecurrentLayer {
  Cell cell = Cell::lstm;
  int64_t directions = 1, inputs = 0, hidden = 0;
  int64_t projected = 0;              // features of the hidden state if it is projected (lstm only), or 0
  bool per_row = false;               // each row of a product's operand has a scale of its own
  RowWeights input, recurrent;        // [directions * gates * hidden][inputs or state()]; gates in torch's order
  RowWeights projection;              // [directions * projected][hidden]
  std::span<const float> input_bias;  // [directions * gates * hidden], or empty: 0
  std::span<const float> recurrent_bias;

  int64_t state() const noexcept { return projected > 0 ? projected : hidden; }
  bool has_cell_state() const noexcept { return cell == Cell::lstm; }
};

// What one call computes on. Sequences lie one time step after the other, the longest first, as torch packs them.
struct RecurrentShape {
  int64_t rows = 0;              // time steps of all sequences together
  int64_t steps = 0;             // of the longest sequence
  int64_t batch = 0;             // sequences
  int64_t first = 0, total = 0;  // states [first, first + directions) of `total` are this layer's
  bool equal_lengths = false;    // every sequence has every time step: there are no batch_sizes
  bool same_state = false;       // states are of one sequence, and all begin with them

  // What is wrong with it, or null. Of equal lengths there may be no sequence.
  const char* problem() const noexcept {
    if (steps < 1) return "no time step";
    if (equal_lengths) return rows == steps * batch ? nullptr : "rows that are not those of every time step";
    return batch < 1 || rows < std::max(steps, batch) ? "no sequence, or fewer rows than they have" : nullptr;
  }
};

// in:  x f32 [rows][inputs], h f32 [total][batch][state], for lstm c f32 [total][batch][hidden], unless lengths are
//      equal batch_sizes s64 [steps]: how many sequences have that time step
// out: y f32 [rows][directions * state], last h f32 [directions][batch][state], for lstm last c f32
//      [directions][batch][hidden]; and room() bytes for the threads to work in, if that is not 0
//
// A product with int8 weights quantizes its float operand as linear_dynamic does, per row or over the whole tensor: x
// once, the hidden state at each time step, the state to be projected likewise. Then
//   p = float(sum (q - zero_point) * (w - weight_zero_point[o])) * (scale * weight_scale[o])
// and with float16 weights p = sum x * float(w), in float32 in the order of the features. Then
//   gate = p_input + bias + p_recurrent,  bias = input_bias + recurrent_bias
// (gru's last gate: tanh((p_input + input_bias) + r * (p_recurrent + recurrent_bias))), each operation rounded on its
// own, and tanh and products with a sigmoid as core/functions.h defines them. Where an operand that is quantized, or a
// row that has a scale of its own, holds an infinity or NaN, all of its product is NaN; batch_sizes that do not fit
// give NaN everywhere.
class PackedRecurrent {
 public:
  virtual ~PackedRecurrent() = default;
  virtual int64_t room(const RecurrentShape& shape) const noexcept = 0;
  // Throws std::invalid_argument. The packed weights must outlive the Work.
  virtual std::unique_ptr<Work> plan(const RecurrentShape& shape) const = 0;
  virtual size_t packed_bytes() const noexcept = 0;
};

// Copies the constants. Throws std::invalid_argument for sizes that do not fit together.
std::unique_ptr<PackedRecurrent> pack_recurrent(const RecurrentLayer& layer, Isa isa);

}  // namespace qfx
