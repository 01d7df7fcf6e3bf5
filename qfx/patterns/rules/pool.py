"""Average pooling to one value is a mean: one op, whose range is its own."""

from __future__ import annotations

import torch
from torch import nn

from qfx.ops.terms import Term
from qfx.patterns.pattern import Match, op, value
from qfx.patterns.rewriter import Rule


def _to_mean(match: Match) -> Term | None:
    size = match.root.kwargs["output_size"]
    if not isinstance(size, (tuple, list)) or any(entry != 1 for entry in size):
        return None
    return Term("mean", (match["x"],), {"dims": tuple(range(-len(size), 0)), "keepdim": True})


RULES = (
    Rule(
        "global_average_pool_to_mean",
        op("adaptive_avg_pool", value("x")),
        _to_mean,
        benefit=5,
        sample=lambda: (nn.AdaptiveAvgPool2d(1), (torch.randn(2, 3, 8, 8),)),
        near_miss=lambda: (nn.AdaptiveAvgPool2d((1, 2)), (torch.randn(2, 3, 8, 8),)),
    ),
)
