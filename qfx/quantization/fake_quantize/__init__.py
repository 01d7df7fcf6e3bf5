"""Fake quantization: values rounded to what integers can hold, with gradients passed straight through."""

from __future__ import annotations

from qfx.quantization.fake_quantize.base import FakeQuantizeBase
from qfx.quantization.fake_quantize.defaults import (
    default_fake_quant,
    default_fixed_qparams_range_0to1_fake_quant,
    default_fixed_qparams_range_neg1to1_fake_quant,
    default_fused_act_fake_quant,
    default_histogram_fake_quant,
    default_lsq_fake_quant,
    default_lsq_plus_fake_quant,
    default_lsq_weight_fake_quant,
    default_pact_fake_quant,
    default_per_channel_weight_fake_quant,
    default_weight_fake_quant,
)
from qfx.quantization.fake_quantize.learnable import LearnableFakeQuantize, PACTFakeQuantize
from qfx.quantization.fake_quantize.module import FakeQuantize, FixedQParamsFakeQuantize

__all__ = [
    "FakeQuantize",
    "FakeQuantizeBase",
    "FixedQParamsFakeQuantize",
    "LearnableFakeQuantize",
    "PACTFakeQuantize",
    "default_fake_quant",
    "default_fixed_qparams_range_0to1_fake_quant",
    "default_fixed_qparams_range_neg1to1_fake_quant",
    "default_fused_act_fake_quant",
    "default_histogram_fake_quant",
    "default_lsq_fake_quant",
    "default_lsq_plus_fake_quant",
    "default_lsq_weight_fake_quant",
    "default_pact_fake_quant",
    "default_per_channel_weight_fake_quant",
    "default_weight_fake_quant",
]
