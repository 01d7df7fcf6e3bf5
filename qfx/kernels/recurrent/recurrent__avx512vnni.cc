#include "core/lanes__avx512vnni.h"
#include "recurrent/cell.h"

namespace qfx::recurrent {

void lstm_f32_x16__avx512vnni(const CellBlock& block) noexcept {
  lstm<Floats>(block);
}
void gru_f32_x16__avx512vnni(const CellBlock& block) noexcept {
  gru<Floats>(block);
}
void rnn_tanh_f32_x16__avx512vnni(const CellBlock& block) noexcept {
  rnn_tanh<Floats>(block);
}
void rnn_relu_f32_x16__avx512vnni(const CellBlock& block) noexcept {
  rnn_relu<Floats>(block);
}

}  // namespace qfx::recurrent
