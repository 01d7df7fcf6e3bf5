"""Fuse an addition into the convolution or linear that makes one of its operands."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qfx.ops.table import op_of
from qfx.ops.terms import Term
from qfx.patterns.pattern import LAYERS, Match, op, single_user, value
from qfx.patterns.rewriter import Rule
from qfx.patterns.rules.batch_norm import arguments_of, plain_epilogue
from qfx.patterns.symbolic_shape import same_shape


def _fuse(match: Match) -> Term | None:
    """The producer has no other reader, so the other operand can't depend on it, and is ready where the sum is."""
    producer, residual = match["producer"], match["residual"]
    if residual is producer or not same_shape(producer, residual):
        return None
    given = arguments_of(producer)
    kwargs = {**producer.kwargs, "activation": match.root.kwargs.get("activation")}
    operands = (given["x"], given["weight"], given["bias"], residual)
    return Term(op_of(producer).name, operands, kwargs, like=producer)  # type: ignore[union-attr]


class _Block(nn.Module):
    def __init__(self, stride: int = 1, *, broadcast: bool = False) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(4, 4, 3, stride, 1), nn.Conv2d(4, 4, 3, 1, 1)
        self.shortcut = nn.AdaptiveAvgPool2d(1) if broadcast else nn.Conv2d(4, 4, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv2(torch.relu(self.conv1(x))) + torch.tanh(self.shortcut(x)))


def _images() -> tuple[Tensor]:
    return (torch.randn(2, 4, 8, 8),)


RULES = (
    Rule(
        "fuse_addition_into_conv",
        op("add", op(LAYERS, name="producer", where=(single_user, plain_epilogue)), value("residual"),
           commutative=True),
        _fuse,
        benefit=14,
        sample=lambda: (_Block(2), _images()),
        near_miss=lambda: (_Block(broadcast=True), _images()),
    ),
)  # fmt: skip
