"""A sample of the rows of a value and the largest of each channel, from which channels are scaled."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from qfx.quantization.observer.base import State, resize_buffer
from qfx.quantization.observer.channel_mean import ChannelMean

KEPT = 256
"""Rows that a sample holds at most."""

_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0  # its multiples, modulo 1, are spread evenly however many there are


def _joined(states: Sequence[State]) -> State:
    result = {name: sum(state[name] for state in states) for name in ("total", "count")}
    result["largest"] = torch.stack([state["largest"] for state in states]).amax(0)
    keys, rows = (torch.cat([state[name] for state in states]) for name in ("keys", "rows"))
    first = keys.argsort(stable=True)[:KEPT]
    return {**result, "keys": keys[first], "rows": rows[first]}  # type: ignore[dict-item]


class ChannelSample(ChannelMean):
    """Channel means, the largest size of each channel, and some rows, spread evenly over all that came by.

    Without random numbers: the same data gives the same rows.

    State: as ChannelMean; ``largest`` float32 ``[channels]``; ``rows`` float32 ``[256, channels]``, of which those are
    none whose ``keys``, float64 ``[256]``, are infinite.

    Raises:
        CalibrationError: As ChannelMean.
    """

    largest: Tensor
    rows: Tensor
    keys: Tensor
    merged_state = staticmethod(_joined)

    def __init__(self) -> None:
        super().__init__(ch_axis=-1)
        self.register_buffer("largest", torch.empty(0))
        self.register_buffer("rows", torch.empty(0))
        self.register_buffer("keys", torch.full((KEPT,), torch.inf, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """Add the rows of ``x``, float ``[..., channels]`` (empty is ignored), and return it."""
        seen = int(self.count)
        super().forward(x)
        if self.enabled and x.numel() > 0:
            self._add_rows(x.detach().reshape(-1, x.shape[-1]).float().to(self.total.device), seen)
        return x

    def sampled(self) -> Tensor:
        """The rows so far, ``[rows, channels]``, none before data."""
        return self.rows[self.keys.isfinite()] if self.rows.numel() else self.rows.reshape(0, 0)

    def _add_rows(self, rows: Tensor, seen: int) -> None:
        if self.largest.numel() == 0:
            resize_buffer(self, "largest", rows.shape[1:]).zero_()
            resize_buffer(self, "rows", (KEPT, rows.shape[1])).zero_()
        self.largest.copy_(torch.maximum(self.largest, rows.abs().amax(0)))
        turns = torch.arange(seen + 1, seen + len(rows) + 1, dtype=torch.float64) * _GOLDEN
        keys = turns.frac().to(self.keys.device)
        new = keys.argsort(stable=True)[:KEPT]
        keys, rows = torch.cat([self.keys, keys[new]]), torch.cat([self.rows, rows[new]])
        first = keys.argsort(stable=True)[:KEPT]
        self.keys.copy_(keys[first])
        self.rows.copy_(rows[first])

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        for name in ("largest", "rows"):
            stored = state_dict.get(prefix + name)
            if isinstance(stored, Tensor) and stored.shape != getattr(self, name).shape:
                resize_buffer(self, name, stored.shape)
        super()._load_from_state_dict(state_dict, prefix, *args)
