"""Second moments of what a layer's kernel sees, which adaptive rounding needs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qfx.ir.stored import Role, require_entries
from qfx.quantization.observer.base import resize_buffer
from qfx.quantization.observer.channel_mean import ChannelMean

_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0  # its multiples, modulo 1, are spread evenly however many there are
_FEWEST, _MOST = 16, 64


@dataclass(frozen=True)
class Window:
    """What one output of a convolution, or of a linear layer (no dimensions), reads.

    Args:
        channels: Of the input, all groups together.
        groups: Channel groups.
        kernel, stride, dilation: One entry a spatial dimension.
        padding: ``(before, after)`` a spatial dimension.
    """

    channels: int
    groups: int = 1
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    padding: tuple[tuple[int, int], ...] = ()

    @property
    def length(self) -> int:
        """Values under one window of one group: channels of the group times taps."""
        return self.channels // self.groups * math.prod(self.kernel)

    @property
    def positions(self) -> int:
        """Windows worth sampling from one input: more for longer ones, whose moments are more."""
        return min(max(self.length // 16, _FEWEST), _MOST)


class WindowMoments(ChannelMean):
    """Channel means, and means and second moments of sampled windows.

    Every forward samples the same ``window.positions`` windows of each input in the batch; the next forward takes
    others. Without random numbers: the same data gives the same moments.

    State: as ChannelMean; ``first`` float32 ``[groups, length]`` and ``second`` float32 ``[groups, length, length]``,
    sums over the ``samples`` (int64) windows so far. Channels come before taps, as in a weight.

    Args:
        window: The layer's geometry.

    Raises:
        CalibrationError: As ChannelMean.
    """

    first: Tensor
    second: Tensor
    samples: Tensor

    def __init__(self, window: Window) -> None:
        super().__init__(ch_axis=-1 - len(window.kernel))
        self.window = window
        self.register_buffer("first", torch.empty(0))
        self.register_buffer("second", torch.empty(0))
        self.register_buffer("samples", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        """Add ``x`` (float; empty is ignored) and return it.

        Args:
            x: ``[batch, channels, *spatial]``, ``[channels, *spatial]`` or, for a linear layer, ``[..., channels]``.
        """
        super().forward(x)
        if self.enabled and x.numel() > 0:
            self._add_windows(sample_windows(x.detach(), self.window, int(self.samples)).to(self.total.device))
        return x

    def moments(self, *, centred: bool) -> Tensor:
        """Second moments a window, float32 ``[groups, length, length]``; about the mean if ``centred``.

        Raises:
            CalibrationError: No data yet.
        """
        self.mean()
        second = self.second / self.samples
        if not centred:
            return second
        mean = self.first / self.samples
        return second - mean.unsqueeze(2) * mean.unsqueeze(1)

    def _add_windows(self, windows: Tensor) -> None:
        groups, count, length = windows.shape
        if self.first.numel() == 0:
            resize_buffer(self, "first", (groups, length)).zero_()
            resize_buffer(self, "second", (groups, length, length)).zero_()
        self.first += windows.sum(1)
        self.second += torch.bmm(windows.transpose(1, 2), windows)
        self.samples += count

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        roles = {name: Role("statistics", dtype=held.dtype) for name, held in self._buffers.items() if held is not None}
        require_entries(state_dict, prefix, roles)
        for name in ("first", "second"):
            stored = state_dict.get(prefix + name)
            if isinstance(stored, Tensor) and stored.shape != getattr(self, name).shape:
                resize_buffer(self, name, stored.shape)
        super()._load_from_state_dict(state_dict, prefix, *args)


def sample_windows(x: Tensor, window: Window, seen: int) -> Tensor:
    """Windows of ``x``, float32 ``[groups, samples, length]``; at most ``window.positions`` of each input.

    Args:
        x: ``[batch, channels, *spatial]``, one input without its batch dimension, or ``[..., channels]`` for a window
            of no dimensions.
        window: The geometry; outside of ``x`` is zero.
        seen: Windows sampled before, from which the choice goes on.
    """
    if not window.kernel:
        rows = x.reshape(-1, x.shape[-1])
        return rows[_spread(rows.shape[0], window.positions * x.shape[0], seen)].float().unsqueeze(0)
    if x.dim() == len(window.kernel) + 1:
        x = x.unsqueeze(0)
    spatial = x.shape[2:]
    geometry = list(zip(spatial, window.kernel, window.stride, window.dilation, window.padding, strict=True))
    out = [(n + lo + hi - (k - 1) * d - 1) // s + 1 for n, k, s, d, (lo, hi) in geometry]
    chosen = _spread(math.prod(out), window.positions, seen // x.shape[0])
    index, inside = torch.zeros(len(chosen), 1, dtype=torch.int64), torch.ones(len(chosen), 1, dtype=torch.bool)
    rest = chosen
    coordinates: list[Tensor] = []
    for size in reversed(out):
        coordinates.insert(0, rest % size)
        rest = rest // size
    for at, (n, k, s, d, (lo, _)) in zip(coordinates, geometry, strict=True):
        taps = at.unsqueeze(1) * s - lo + torch.arange(k) * d
        index = (index.unsqueeze(2) * n + taps.clamp(0, n - 1).unsqueeze(1)).flatten(1)
        inside = (inside.unsqueeze(2) & ((taps >= 0) & (taps < n)).unsqueeze(1)).flatten(1)
    picked = x.flatten(2).index_select(2, index.flatten().to(x.device)).float()
    picked = picked.reshape(x.shape[0], window.groups, -1, *index.shape) * inside.to(picked)
    return picked.permute(1, 0, 3, 2, 4).reshape(window.groups, -1, window.length)


def _spread(count: int, wanted: int, seen: int) -> Tensor:
    """``wanted`` of ``count`` indices (all if that is no more), spread evenly, others for another ``seen``."""
    if wanted >= count:
        return torch.arange(count)
    turns = torch.arange(seen + 1, seen + wanted + 1, dtype=torch.float64) * _GOLDEN
    return (turns.frac() * count).long()
