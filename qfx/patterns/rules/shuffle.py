"""Recognize a channel shuffle written as reshape, transpose, reshape."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from qfx.ops.extents import extent_of, origin_of, rank_of
from qfx.ops.table import is_op
from qfx.ops.terms import Term
from qfx.patterns.pattern import Match, op, single_user, value
from qfx.patterns.rewriter import Rule
from qfx.patterns.rules.identity import permutation


def _reads_dim(entry: Any, x: Any, dim: int) -> bool:
    """Whether a shape's entry is certainly the length of ``dim`` of ``x``."""
    if is_op(entry, "size"):
        return origin_of(entry.args[0], entry.kwargs["dim"]) == origin_of(x, dim)
    known = x.meta["shape"][dim] if "shape" in x.meta else extent_of(x, dim)
    return isinstance(entry, int) and entry == known


def _shuffle(match: Match) -> Term | None:
    x, split, swap, join = match["x"], match["split"], match["swap"], match.root
    shape: Any = split.args[1]
    channels = extent_of(x, 1)
    if len(shape) != 5 or rank_of(x) != 4 or channels is None or not isinstance(shape[1], int):
        return None
    batch_first = shape[0] == -1 or _reads_dim(shape[0], x, 0)
    sizes = batch_first and shape[2] in (-1, channels // shape[1])
    sizes = sizes and _reads_dim(shape[3], x, 2) and _reads_dim(shape[4], x, 3)
    if not sizes or _order(swap) != (0, 2, 1, 3, 4) or not _joins(join, x, shape, channels):
        return None
    return Term("channel_shuffle", (x,), {"groups": shape[1]})


def _order(swap: Any) -> tuple[int, ...] | None:
    if {swap.kwargs.get("dim0"), swap.kwargs.get("dim1")} == {1, 2}:
        return (0, 2, 1, 3, 4)
    return permutation(swap)


def _joins(join: Any, x: Any, shape: Any, channels: int) -> bool:
    """Whether ``join`` merges dims 1 and 2 and keeps the others."""
    if is_op(join, "flatten"):
        return (join.kwargs["start_dim"], join.kwargs["end_dim"]) in ((1, 2), (1, -3))
    entries: Any = join.args[1]
    if len(entries) != 4 or entries[1] not in (-1, channels) or list(entries).count(-1) > 1:
        return False
    same_batch = entries[0] == -1 or _reads_dim(entries[0], x, 0) or entries[0] is shape[0]
    return same_batch and entries[2] == shape[3] and entries[3] == shape[4]


class _Shuffle(nn.Module):
    def __init__(self, swap: tuple[int, int]) -> None:
        super().__init__()
        self.conv, self.swap = nn.Conv2d(3, 6, 3), swap

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        n, c, h, w = y.shape
        return y.view(n, 2, c // 2, h, w).transpose(*self.swap).reshape(n, -1, h, w)


def _images() -> tuple[Tensor]:
    return (torch.randn(2, 3, 8, 8),)


RULES = (
    Rule(
        "recognize_channel_shuffle",
        op("reshape flatten", op("transpose permute", op("reshape", value("x"), name="split", where=(single_user,)),
                                 name="swap", where=(single_user,))),
        _shuffle,
        benefit=11,
        sample=lambda: (_Shuffle((1, 2)), _images()),
        near_miss=lambda: (_Shuffle((3, 4)), _images()),
        semantics="bitwise",
    ),
)  # fmt: skip
