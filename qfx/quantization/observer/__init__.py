"""Observers: modules that watch values go by and answer with quantization parameters."""

from qfx.quantization.observer.base import Observer, ObserverBase
from qfx.quantization.observer.channel_mean import ChannelMean
from qfx.quantization.observer.channel_sample import ChannelSample
from qfx.quantization.observer.defaults import (
    default_debug_observer,
    default_dynamic_quant_observer,
    default_fixed_qparams_range_0to1_observer,
    default_fixed_qparams_range_neg1to1_observer,
    default_histogram_observer,
    default_observer,
    default_per_channel_weight_observer,
    default_placeholder_observer,
    default_weight_observer,
    per_channel_weight_observer_range_neg_127_to_127,
    per_group_dynamic_quant_observer,
    per_tensor_dynamic_quant_observer,
    weight_observer_range_neg_127_to_127,
)
from qfx.quantization.observer.groups import PerGroupMinMaxObserver
from qfx.quantization.observer.histogram import HistogramObserver
from qfx.quantization.observer.minmax import (
    MinMaxObserver,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    PerChannelMinMaxObserver,
)
from qfx.quantization.observer.passive import (
    FixedOrObserved,
    FixedQParamsObserver,
    NoopObserver,
    PlaceholderObserver,
    RecordingObserver,
)
from qfx.quantization.observer.quantile import QuantileHistogramObserver
from qfx.quantization.observer.window_moments import Window, WindowMoments

__all__ = [
    "ChannelMean",
    "ChannelSample",
    "FixedOrObserved",
    "FixedQParamsObserver",
    "HistogramObserver",
    "MinMaxObserver",
    "MovingAverageMinMaxObserver",
    "MovingAveragePerChannelMinMaxObserver",
    "NoopObserver",
    "Observer",
    "ObserverBase",
    "PerChannelMinMaxObserver",
    "PerGroupMinMaxObserver",
    "PlaceholderObserver",
    "QuantileHistogramObserver",
    "RecordingObserver",
    "Window",
    "WindowMoments",
    "default_debug_observer",
    "default_dynamic_quant_observer",
    "default_fixed_qparams_range_0to1_observer",
    "default_fixed_qparams_range_neg1to1_observer",
    "default_histogram_observer",
    "default_observer",
    "default_per_channel_weight_observer",
    "default_placeholder_observer",
    "default_weight_observer",
    "per_channel_weight_observer_range_neg_127_to_127",
    "per_group_dynamic_quant_observer",
    "per_tensor_dynamic_quant_observer",
    "weight_observer_range_neg_127_to_127",
]
