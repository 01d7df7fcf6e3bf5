"""Fuse relu and clamp into the op before them, as its clamp epilogue."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from qfx.ops.table import op_of
from qfx.ops.terms import Term
from qfx.patterns.pattern import Match, op, single_user
from qfx.patterns.rewriter import Rule
from qfx.patterns.rules.batch_norm import arguments_of

Bounds = tuple[float | None, float | None]


def bounds_of(node: fx.Node) -> Bounds:
    """The interval that a relu or clamp node clamps to; None is an open end."""
    if "max" in node.kwargs or "min" in node.kwargs:
        low, high = node.kwargs.get("min"), node.kwargs.get("max")
        return low, high  # type: ignore[return-value]
    return 0.0, None


def intersection(first: Bounds, then: Bounds) -> Bounds | None:
    """The clamp that equals two in a row, or None when their intervals are disjoint."""
    lows = [low for low in (first[0], then[0]) if low is not None]
    highs = [high for high in (first[1], then[1]) if high is not None]
    low, high = max(lows, default=None), min(highs, default=None)
    return None if low is not None and high is not None and low > high else (low, high)


def _fuse(match: Match) -> Term | None:
    producer = match["producer"]
    present = arguments_of(producer)["activation"]
    both = intersection((None, None) if present is None else present[1:], bounds_of(match.root))
    if both is None:
        return None
    kwargs = {**producer.kwargs, "activation": ("clamp", *both)}
    return Term(op_of(producer).name, producer.args, kwargs, like=producer)  # type: ignore[union-attr]


def _merge(match: Match) -> Term | None:
    both = intersection(bounds_of(match["inner"]), bounds_of(match.root))
    if both is None:
        return None
    operands = match["inner"].args
    return Term("relu", operands) if both == (0.0, None) else Term("clamp", operands, {"min": both[0], "max": both[1]})


class _Clamps(nn.Module):
    def __init__(self, *bounds: tuple[Any, Any]) -> None:
        super().__init__()
        self.bounds = bounds

    def forward(self, x: Tensor) -> Tensor:
        for low, high in self.bounds:
            x = torch.clamp(x, low, high)
        return x


class _ReadBefore(nn.Module):
    """The value before the activation is read too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return torch.relu(y) - y


def _images() -> tuple[Tensor]:
    return (torch.randn(2, 3, 8, 8),)


RULES = (
    Rule(
        "fuse_clamp_into_producer",
        op("relu clamp", op("conv linear channel_affine add sub mul", name="producer", where=(single_user,))),
        _fuse,
        benefit=10,
        sample=lambda: (nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Hardtanh(-1.0, 0.5)), _images()),
        near_miss=lambda: (_ReadBefore(), _images()),
        semantics="bitwise",
    ),
    Rule(
        "merge_clamps",
        op("relu clamp", op("relu clamp", name="inner", where=(single_user,))),
        _merge,
        benefit=8,
        sample=lambda: (_Clamps((-1.0, None), (-2.0, 0.5)), _images()),
        near_miss=lambda: (_Clamps((-1.0, -0.5), (0.25, 0.5)), _images()),
        semantics="bitwise",
    ),
)
