#include "recurrent/cell.h"

namespace qfx::recurrent {

void lstm_f32__scalar(const CellBlock& block) noexcept {
  lstm<float>(block);
}
void gru_f32__scalar(const CellBlock& block) noexcept {
  gru<float>(block);
}
void rnn_tanh_f32__scalar(const CellBlock& block) noexcept {
  rnn_tanh<float>(block);
}
void rnn_relu_f32__scalar(const CellBlock& block) noexcept {
  rnn_relu<float>(block);
}

}  // namespace qfx::recurrent
