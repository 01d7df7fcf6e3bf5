"""Take what is asked for of values that are joined and taken apart again: states of one layer of several."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from qfx.ops.calls import arguments
from qfx.ops.extents import extent_of, rank_of
from qfx.ops.table import op_at
from qfx.ops.terms import Term
from qfx.patterns.pattern import Match, op, value
from qfx.patterns.rewriter import Rule


def _part(match: Match) -> Term | fx.Node | None:
    """A position of the dim along which tensors were joined: of the tensor that it comes from."""
    join, asked = match["join"], match.root.kwargs
    dim: Any = asked["dim"]
    index: Any = asked["index"]
    given, rank = arguments(op_at(join), join), rank_of(join)
    if rank is None or not isinstance(index, int) or dim % rank != given["dim"] % rank:
        return None
    stacked = op_at(join).name == "stack"
    found = _place([1 if stacked else extent_of(t, dim % rank) for t in given["tensors"]], index)
    if found is None:
        return None
    which, own = found
    operand: fx.Node = given["tensors"][which]
    return operand if stacked else Term("select", (operand,), {"dim": dim % rank, "index": own})


def _place(lengths: list[int | None], index: int) -> tuple[int, int] | None:
    """Which of joined tensors of these lengths, unknown ones among them, has position ``index``, and where in it."""
    order = range(len(lengths)) if index >= 0 else range(len(lengths) - 1, -1, -1)
    left = index if index >= 0 else -1 - index
    for which in order:
        length = lengths[which]
        if length is None:
            return None
        if left < length:
            return which, left if index >= 0 else length - 1 - left
        left -= length
    return None


class _Joined(nn.Module):
    def __init__(self, join: Any, dim: int, index: int) -> None:
        super().__init__()
        self.join, self.dim, self.index = join, dim, index

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        parts = (torch.relu(x).reshape(1, 2, 3), torch.tanh(y).reshape(1, 2, 3))
        return torch.sigmoid(self.join(parts).select(self.dim, self.index))


RULES = (
    Rule(
        "take_part_of_joined",
        op("select", op("cat stack", value("first"), name="join")),
        _part,
        benefit=9,
        sample=lambda: (_Joined(torch.cat, 0, -1), (torch.randn(2, 3), torch.randn(2, 3))),
        near_miss=lambda: (_Joined(torch.cat, 1, 0), (torch.randn(2, 3), torch.randn(2, 3))),
        semantics="bitwise",
    ),
)
