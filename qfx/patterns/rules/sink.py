"""Move a clamp or a channel affine before moves of elements, where it joins the layer that computed them."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn

from qfx.ops.extents import rank_of
from qfx.ops.table import is_op, op_of
from qfx.ops.terms import Folded, Term
from qfx.patterns.pattern import Match, constant, op, single_user, value
from qfx.patterns.rewriter import Rule
from qfx.patterns.rules.batch_norm import arguments_of, name_of, randomized
from qfx.patterns.rules.trained import repeated, trains_batch_norm


def _of_a_layer(move: fx.Node) -> bool:
    """Nothing but moves that nobody else reads lie between a layer and ``move``."""
    source: Any = move.args[0]
    while is_op(source, "pixel_shuffle", "slice") and single_user(source):
        source = source.args[0]
    return is_op(source, "conv", "linear") and single_user(source)


def _before(move: fx.Node, moved: Term) -> Term:
    return Term(op_of(move).name, (moved, *move.args[1:]), dict(move.kwargs), like=move)  # type: ignore[union-attr]


def _clamp(match: Match) -> Term:
    clamp, move = match.root, match["move"]
    return _before(move, Term(op_of(clamp).name, (move.args[0],), dict(clamp.kwargs), like=clamp))  # type: ignore[union-attr]


def _affine(match: Match) -> Term | None:
    affine, move = arguments_of(match.root), match["move"]
    moved = arguments_of(move)
    if is_op(move, "slice") and (moved["dim"] < 2 or trains_batch_norm(affine["weight"])):
        return None  # the batch statistics of a training step leave out what is cut away
    operands = [affine["weight"], affine["bias"]]
    if any(t is not None and t.op != "get_attr" for t in operands):
        return None
    if is_op(move, "pixel_shuffle"):
        if rank_of(move) not in (None, 4):  # whose channels are not along dim 1
            return None
        spread = partial(repeated, times=moved["factor"] ** 2)
        operands = [t and Folded(name_of(t), spread, (t,), beside=t) for t in operands]
    kwargs = dict(match.root.kwargs)
    return _before(move, Term("channel_affine", (move.args[0], *operands), kwargs, like=match.root))


class _Moved(nn.Module):
    """A layer whose result is sliced, then activated, and read before that if ``twice``."""

    def __init__(self, *, twice: bool) -> None:
        super().__init__()
        self.conv, self.twice = nn.Conv2d(3, 4, 3), twice

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)[:, :, 1:]
        return torch.relu(y) - y if self.twice else torch.relu(y)


def _upsampled() -> nn.Module:
    return randomized(nn.Sequential(nn.ConvTranspose2d(3, 4, 4, 2, 1), nn.BatchNorm2d(4)))


def _images() -> tuple[Tensor]:
    return (torch.randn(2, 3, 8, 8),)


_MOVE = op("pixel_shuffle slice", name="move", where=(single_user, _of_a_layer))

RULES = (
    Rule(
        "sink_clamp_below_move",
        op("relu clamp", _MOVE),
        _clamp,
        benefit=7,
        sample=lambda: (_Moved(twice=False), _images()),
        near_miss=lambda: (_Moved(twice=True), _images()),
        semantics="bitwise",
    ),
    Rule(
        "sink_channel_affine_below_move",
        op("channel_affine", _MOVE, constant("weight"), value("bias")),
        _affine,
        benefit=7,
        sample=lambda: (_upsampled(), _images()),
        near_miss=lambda: (nn.Sequential(nn.PixelShuffle(1), nn.BatchNorm2d(3)).eval(), _images()),
        across_qconfigs=True,
    ),
)  # fmt: skip
