"""Per-channel means of a value, which bias correction needs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from qfx.arguments import checked
from qfx.errors import CalibrationError
from qfx.ir.stored import Role, require_entries
from qfx.quantization.observer.base import State, as_observable, resize_buffer


def _sums(states: Sequence[State]) -> State:
    result = {name: value.clone() for name, value in states[0].items()}
    for state in states[1:]:
        for name, value in state.items():
            result[name] += value
    return result


class ChannelMean(nn.Module):
    """Running mean over every dimension but the channel's, accumulated in float64.

    State: ``total`` float64 ``[channels]`` (empty before data) and ``count`` int64, the number of values a channel.

    Args:
        ch_axis: The channel dimension; may count from the end.

    Raises:
        CalibrationError: NaN or infinity in the data; ``mean()`` before data; the channel count changes.
    """

    total: Tensor
    count: Tensor
    label: str | None = None
    source: str | None = None
    enabled: bool = True
    merged_state = staticmethod(_sums)

    @checked
    def __init__(self, ch_axis: int = 1) -> None:
        super().__init__()
        self.ch_axis = ch_axis
        self.register_buffer("total", torch.empty(0, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        """Add ``x`` (float, any layout; empty is ignored) to the sums and return it."""
        if self.enabled:
            values = as_observable(self, x)
            if values.numel() > 0:
                self._add(channel_sums(values, self.ch_axis).to(self.total.device), values.numel())
        return x

    def mean(self) -> Tensor:
        """The means so far, float64 ``[channels]``."""
        if self.total.numel() == 0:
            raise self._error("ChannelMean has seen no data.", "Calibrate with inputs that reach this value.")
        return self.total / self.count

    def _add(self, sums: Tensor, numel: int) -> None:
        if not math.isfinite(float(sums.sum())):
            raise self._error("ChannelMean met a value that is not finite.", "Check the calibration inputs.")
        if self.total.numel() == 0:
            resize_buffer(self, "total", sums.shape).zero_()
        if sums.shape != self.total.shape:
            raise self._error(
                f"ChannelMean met {sums.numel()} channels after {self.total.numel()}.",
                "Calibrate with inputs of one channel count.",
            )
        self.total += sums
        self.count += numel // sums.numel()

    def _error(self, what: str, remedy: str) -> CalibrationError:
        return CalibrationError(what, where=self.label, source=self.source, remedy=remedy)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        roles = {name: Role("statistics", dtype=held.dtype) for name, held in self._buffers.items() if held is not None}
        require_entries(state_dict, prefix, roles)
        total = state_dict.get(prefix + "total")
        if isinstance(total, Tensor) and total.shape != self.total.shape:
            resize_buffer(self, "total", total.shape)
        super()._load_from_state_dict(state_dict, prefix, *args)


def channel_sums(x: Tensor, axis: int) -> Tensor:
    """Sums over every dimension but ``axis``, float64 ``[channels]``.

    Spatial sums of one sample are float32 (torch adds them pairwise), sums over samples float64.
    """
    axis = axis % x.dim()
    inner = [d for d in range(1, x.dim()) if d != axis]
    per_sample = x.float().sum(inner) if inner else x
    if not bool(per_sample.isfinite().all()):  # beyond float32, though its values may not be
        per_sample = x.double().sum(inner) if inner else x
    return per_sample.double() if axis == 0 else per_sample.double().sum(0)
