#pragma once
#include "fake_quant/fake_quant.h"

namespace qfx::fake_quant {

// Takes in one batch's extremes of a channel, finite, and computes its qparams: the formulas of
// qfx.quantization.observer, every operation rounded to float32 on its own.
void observe(const Statistics& statistics, const Integers& integers, int64_t channel, float low, float high,
             const QParamState& state) noexcept;

}  // namespace qfx::fake_quant
