#include "core/lanes__avx2.h"
#include "recurrent/cell.h"

namespace qfx::recurrent {

void lstm_f32_x8__avx2(const CellBlock& block) noexcept {
  lstm<Floats>(block);
}
void gru_f32_x8__avx2(const CellBlock& block) noexcept {
  gru<Floats>(block);
}
void rnn_tanh_f32_x8__avx2(const CellBlock& block) noexcept {
  rnn_tanh<Floats>(block);
}
void rnn_relu_f32_x8__avx2(const CellBlock& block) noexcept {
  rnn_relu<Floats>(block);
}

}  // namespace qfx::recurrent
