"""Networks of which the zoo's figures are known."""

from __future__ import annotations

import torch
from torch import nn


class HalfTraced(nn.Module):
    """Two equal convolutions; the second runs only for finite inputs, which no trace knows."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 3, padding=1), Branching()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x))


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x) if bool(x.isfinite().all()) else x


def plain() -> nn.Module:
    """Everything in int8."""
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))


WORK = {"HalfTraced": 2 * 8 * 8 * 3 * 3 * 9, "plain": 6 * 6 * 4 * 27 + 144 * 5}
"""Multiply-accumulates for one image of 8 by 8 pixels."""
SHARES = {"HalfTraced": 0.5, "plain": 1.0}
"""Which part of them int8 operations do."""
