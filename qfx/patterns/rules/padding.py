"""Fold explicit padding into the padding of the convolution or pool behind it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from qfx.ops.table import is_op
from qfx.ops.terms import Term
from qfx.patterns.pattern import Match, constant, op, value
from qfx.patterns.rewriter import Rule
from qfx.patterns.rules.batch_norm import arguments_of


def _amounts(pad: Sequence[int], spatial: int) -> list[tuple[int, int]] | None:
    """``(low, high)`` a spatial dim, or None when the padding crops or pads another dim."""
    if any(amount < 0 for amount in pad) or any(pad[2 * spatial :]):
        return None
    flat = [*pad, *[0] * (2 * spatial)][: 2 * spatial]
    return [(flat[2 * dim], flat[2 * dim + 1]) for dim in reversed(range(spatial))]


def _fills_with(pad: Any, fill: float) -> bool:
    return bool(pad.kwargs["mode"] == "constant" and (pad.kwargs["value"] or 0.0) == fill)


def _into_conv(match: Match) -> Term | None:
    pad, conv = match["pad"], arguments_of(match.root)
    amounts = _amounts(pad.kwargs["pad"], len(conv["stride"]))
    if amounts is None or not _fills_with(pad, 0.0):
        return None
    both = zip(amounts, conv["padding"], strict=True)
    padding = tuple((low + more[0], high + more[1]) for (low, high), more in both)
    operands = (pad.args[0], *match.root.args[1:])
    return Term("conv", operands, {**match.root.kwargs, "padding": padding}, like=match.root)


def _into_pool(match: Match) -> Term | None:
    pad, pool = match["pad"], arguments_of(match.root)
    amounts = _amounts(pad.kwargs["pad"], len(pool["kernel"]))
    average = is_op(match.root, "avg_pool")
    if amounts is None or not _fills_with(pad, 0.0 if average else -math.inf) or any(pool["padding"]):
        return None
    fits = all(low == high <= kernel // 2 for (low, high), kernel in zip(amounts, pool["kernel"], strict=True))
    if not fits or pool["ceil_mode"]:
        return None
    changed: dict[str, Any] = {"padding": tuple(low for low, _ in amounts)}
    if average:
        changed["count_include_pad"] = True
    name = "avg_pool" if average else "max_pool"
    return Term(name, (pad.args[0],), {**match.root.kwargs, **changed}, like=match.root)


def _images() -> tuple[torch.Tensor]:
    return (torch.randn(2, 3, 9, 9),)


RULES = (
    Rule(
        "fold_padding_into_conv",
        op("conv", op("pad", value("x"), name="pad"), constant("weight")),
        _into_conv,
        benefit=12,
        sample=lambda: (nn.Sequential(nn.ZeroPad2d((0, 1, 2, 1)), nn.Conv2d(3, 4, 3, 2, padding=1)), _images()),
        near_miss=lambda: (nn.Sequential(nn.ConstantPad2d(1, 0.5), nn.Conv2d(3, 4, 3, 2)), _images()),
    ),
    Rule(
        "fold_padding_into_pool",
        op("avg_pool max_pool", op("pad", value("x"), name="pad")),
        _into_pool,
        benefit=12,
        sample=lambda: (nn.Sequential(nn.ConstantPad2d(1, -math.inf), nn.MaxPool2d(3, 2)), _images()),
        near_miss=lambda: (nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.AvgPool2d(3, 2)), _images()),
    ),
)
