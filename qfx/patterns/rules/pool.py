"""Averages over whole images in one form: a mean, with a range of its own; between stubs a pool, with its input's."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from qfx.ir.boundary import STUBBED, Boundary
from qfx.ops.extents import rank_of
from qfx.ops.terms import Term
from qfx.patterns.pattern import Match, op, value
from qfx.patterns.rewriter import Rule


def _to_mean(match: Match) -> Term | None:
    size = match.root.kwargs["output_size"]
    if not isinstance(size, (tuple, list)) or any(entry != 1 for entry in size):
        return None
    return Term("mean", (match["x"],), {"dims": tuple(range(-len(size), 0)), "keepdim": True})


def _to_pool(match: Match) -> Term | None:
    """Eager mode gives ``x.mean((2, 3))`` of a QTensor the parameters of ``x``."""
    rank = rank_of(match["x"])
    dims: Any = match.root.kwargs["dims"]
    if not match.root.meta.get(STUBBED, False) or rank not in (3, 4, 5) or not dims:
        return None
    spatial = list(range(2, rank))
    if sorted(dim % rank for dim in dims) != spatial:
        return None
    pool = Term("adaptive_avg_pool", (match["x"],), {"output_size": (1,) * len(spatial)})
    return pool if match.root.kwargs["keepdim"] else Term("squeeze", (pool,), {"dim": tuple(spatial)})


class _Begin(nn.Identity):
    boundary = Boundary.BEGIN


class _Mean(nn.Module):
    def __init__(self, *dims: int) -> None:
        super().__init__()
        self.begin, self.conv, self.dims = _Begin(), nn.Conv2d(3, 4, 3), dims

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.begin(x)).mean(self.dims)


RULES = (
    Rule(
        "global_average_pool_to_mean",
        op("adaptive_avg_pool", value("x")),
        _to_mean,
        benefit=5,
        sample=lambda: (nn.AdaptiveAvgPool2d(1), (torch.randn(2, 3, 8, 8),)),
        near_miss=lambda: (nn.AdaptiveAvgPool2d((1, 2)), (torch.randn(2, 3, 8, 8),)),
        between_stubs=False,
    ),
    Rule(
        "mean_between_stubs_to_global_average_pool",
        op("mean", value("x")),
        _to_pool,
        benefit=5,
        sample=lambda: (_Mean(-1, 2), (torch.randn(2, 3, 8, 8),)),
        near_miss=lambda: (_Mean(1, 2), (torch.randn(2, 3, 8, 8),)),
    ),
)
