"""The fake-quantize factories that qconfigs name."""

from __future__ import annotations

from qfx.ir.types import QDType, QScheme
from qfx.quantization.fake_quantize.learnable import LearnableFakeQuantize, PACTFakeQuantize
from qfx.quantization.fake_quantize.module import FakeQuantize, FixedQParamsFakeQuantize
from qfx.quantization.observer import (
    HistogramObserver,
    MinMaxObserver,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    PerChannelMinMaxObserver,
    default_fixed_qparams_range_0to1_observer,
    default_fixed_qparams_range_neg1to1_observer,
)

default_fake_quant = FakeQuantize.with_args(
    observer=MovingAverageMinMaxObserver, quant_min=0, quant_max=255, dtype=QDType.quint8, reduce_range=True
)
"""Activations: quint8 by a moving average of minimum and maximum."""
default_fused_act_fake_quant = FakeQuantize.with_args(
    observer=MovingAverageMinMaxObserver, quant_min=0, quant_max=255, dtype=QDType.quint8
)
"""Activations: quint8 in 0..255 by a moving average of minimum and maximum."""
default_histogram_fake_quant = FakeQuantize.with_args(
    observer=HistogramObserver, quant_min=0, quant_max=255, dtype=QDType.quint8, reduce_range=True
)
"""Activations: quint8 by a histogram."""
default_weight_fake_quant = FakeQuantize.with_args(
    observer=MovingAverageMinMaxObserver,
    quant_min=-128,
    quant_max=127,
    dtype=QDType.qint8,
    qscheme=QScheme.per_tensor_symmetric,
)
"""Weights: qint8, symmetric, one scale, by a moving average."""
default_per_channel_weight_fake_quant = FakeQuantize.with_args(
    observer=MovingAveragePerChannelMinMaxObserver,
    quant_min=-128,
    quant_max=127,
    dtype=QDType.qint8,
    qscheme=QScheme.per_channel_symmetric,
    ch_axis=0,
)
"""Weights: qint8, symmetric, one scale a channel, by a moving average."""
default_fixed_qparams_range_0to1_fake_quant = FixedQParamsFakeQuantize.with_args(
    observer=default_fixed_qparams_range_0to1_observer
)
"""Of values in 0..1, as sigmoid gives."""
default_fixed_qparams_range_neg1to1_fake_quant = FixedQParamsFakeQuantize.with_args(
    observer=default_fixed_qparams_range_neg1to1_observer
)
"""Of values in -1..1, as tanh gives."""

default_lsq_fake_quant = LearnableFakeQuantize.with_args(
    observer=MinMaxObserver, quant_min=0, quant_max=255, dtype=QDType.quint8, init="mean"
)
"""Activations: quint8 with a learned scale (LSQ), first from the mean magnitude; the zero point from the minimum."""
default_lsq_plus_fake_quant = LearnableFakeQuantize.with_args(
    observer=MinMaxObserver, quant_min=0, quant_max=255, dtype=QDType.quint8, learn_zero_point=True
)
"""Activations: quint8 with a learned scale and zero point (LSQ+), first from minimum and maximum."""
default_lsq_weight_fake_quant = LearnableFakeQuantize.with_args(
    observer=PerChannelMinMaxObserver,
    quant_min=-128,
    quant_max=127,
    dtype=QDType.qint8,
    qscheme=QScheme.per_channel_symmetric,
    ch_axis=0,
    init="mean",
)
"""Weights: qint8, symmetric, a learned scale a channel (LSQ), first from the mean magnitude."""
default_pact_fake_quant = PACTFakeQuantize.with_args(alpha=6.0, quant_max=255)
"""Activations behind which a relu would stand: quint8 in 0..alpha, alpha learned (PACT)."""
