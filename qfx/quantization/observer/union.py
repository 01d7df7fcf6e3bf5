"""The state of an observer for all the data that several observers of its class saw."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from qfx.quantization.observer.base import Observer, resize_buffer
from qfx.quantization.observer.bins import bin_grid, coarsen
from qfx.quantization.observer.histogram import HistogramObserver
from qfx.quantization.observer.minmax import MinMaxObserver, MovingAverageMinMaxObserver
from qfx.quantization.observer.quantile import QuantileHistogramObserver, moved

State = Mapping[str, Tensor]
"""An observer's buffers by name."""


def extremes(states: Sequence[State]) -> dict[str, Tensor]:
    """The least minimum and the greatest maximum."""
    return {
        "min_val": torch.stack([s["min_val"] for s in states]).amin(0),
        "max_val": torch.stack([s["max_val"] for s in states]).amax(0),
    }


def histograms(states: Sequence[State]) -> State:
    """Of HistogramObserver: exactly what one observer of all the data has."""
    bins = states[0]["histogram"].numel()
    whole = extremes(states)
    grid = bin_grid(float(whole["min_val"]), float(whole["max_val"]), bins)
    parts = [coarsen(s["histogram"], bin_grid(float(s["min_val"]), float(s["max_val"]), bins), grid) for s in states]
    return {**whole, "histogram": torch.stack(parts).sum(0)}


def quantile_histograms(states: Sequence[State]) -> State:
    """Of QuantileHistogramObserver: redistributed over the whole range, as one observer does when its range grows."""
    whole = extremes(states)
    span = float(whole["min_val"]), float(whole["max_val"])
    parts = [moved(s["histogram"], (float(s["min_val"]), float(s["max_val"])), span) for s in states]
    return {**whole, "histogram": torch.stack(parts).sum(0)}


_RULES: Mapping[Any, Callable[[Sequence[State]], State]] = {
    MinMaxObserver: extremes,
    MovingAverageMinMaxObserver: extremes,
    HistogramObserver: histograms,
    QuantileHistogramObserver: quantile_histograms,
}


def united(observers: Sequence[Observer]) -> Observer | None:
    """An observer of what all of ``observers``, of one class, saw; None where nothing says how their states unite.

    Args:
        observers: Not changed; each has seen data.
    """
    first = observers[0]
    if len(observers) == 1:
        return first
    rule = _RULES.get(type(first))
    if rule is None or any(type(o) is not type(first) for o in observers):
        return None
    made = copy.deepcopy(first)
    for name, value in rule([dict(o.named_buffers(recurse=False)) for o in observers]).items():
        resize_buffer(made, name, value.shape).copy_(value)
    return made
