"""The observer factories that the field knows by name, with the integer ranges that the names have always meant."""

from __future__ import annotations

from qfx.ir.types import QDType, QScheme
from qfx.quantization.observer.minmax import MinMaxObserver, PerChannelMinMaxObserver
from qfx.quantization.observer.passive import FixedQParamsObserver, PlaceholderObserver, RecordingObserver
from qfx.quantization.observer.quantile import QuantileHistogramObserver

default_observer = MinMaxObserver.with_args(reduce_range=True)
"""Activations in 0..127, by minimum and maximum."""
default_histogram_observer = QuantileHistogramObserver.with_args(reduce_range=True)
"""Activations in 0..127, by a histogram."""
default_placeholder_observer = PlaceholderObserver
"""Observes nothing: for values that are quantized at run time, or not at all."""
default_debug_observer = RecordingObserver
"""Keeps every value that it sees."""

default_weight_observer = MinMaxObserver.with_args(dtype=QDType.qint8, qscheme=QScheme.per_tensor_symmetric)
"""Weights in qint8, symmetric, one scale."""
default_per_channel_weight_observer = PerChannelMinMaxObserver.with_args(
    dtype=QDType.qint8, qscheme=QScheme.per_channel_symmetric
)
"""Weights in qint8, symmetric, one scale a channel."""
weight_observer_range_neg_127_to_127 = default_weight_observer.with_args(quant_min=-127, quant_max=127, eps=2**-12)
"""Weights in -127..127, symmetric, one scale."""
per_channel_weight_observer_range_neg_127_to_127 = default_per_channel_weight_observer.with_args(
    quant_min=-127, quant_max=127, eps=2**-12
)
"""Weights in -127..127, symmetric, one scale a channel."""

per_tensor_dynamic_quant_observer = PlaceholderObserver.with_args(
    dtype=QDType.quint8, quant_min=0, quant_max=255, is_dynamic=True
)
"""Activations in 0..255, quantized at run time, one scale a tensor."""
default_dynamic_quant_observer = per_tensor_dynamic_quant_observer.with_args(per_row=True)
"""Activations in 0..255, quantized at run time, one scale a row of the last dim."""
per_group_dynamic_quant_observer = PlaceholderObserver.with_args(
    dtype=QDType.qint8,
    quant_min=-128,
    quant_max=127,
    qscheme=QScheme.per_channel_symmetric,
    is_dynamic=True,
    per_row=True,
    group_size=32,
)
"""Activations in -127..127, quantized at run time, one scale for 32 neighbours of a row of the last dim."""

default_fixed_qparams_range_0to1_observer = FixedQParamsObserver.with_args(scale=1.0 / 256.0, zero_point=0)
"""Of values in 0..1, as sigmoid gives."""
default_fixed_qparams_range_neg1to1_observer = FixedQParamsObserver.with_args(scale=2.0 / 256.0, zero_point=128)
"""Of values in -1..1, as tanh gives."""
