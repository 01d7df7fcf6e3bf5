"""Fold scalar factors of a matrix product into its own factor; make a product with a constant matrix a layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from qfx.ops.terms import Folded, Term
from qfx.patterns.pattern import Match, op, single_user, value
from qfx.patterns.rewriter import Rule
from qfx.patterns.rules.batch_norm import arguments_of


def _is_linear(node: fx.Node) -> bool:
    """The matmul has no activation, so that a factor of its result is one of its product."""
    return arguments_of(node)["activation"] is None


def _with_factor(matmul: fx.Node, factor: Any, *operands: Any) -> Term:
    before: Any = matmul.kwargs.get("factor", 1.0)
    kwargs = {**matmul.kwargs, "factor": before * factor}
    return Term("matmul", operands, kwargs)


def _fold_behind(match: Match) -> Term:
    matmul = match["matmul"]
    return _with_factor(matmul, match.root.kwargs["value"], *matmul.args)


def _fold_left(match: Match) -> Term:
    return _with_factor(match.root, match["scaled"].kwargs["value"], match["scaled"].args[0], match.root.args[1])


def _fold_right(match: Match) -> Term:
    return _with_factor(match.root, match["scaled"].kwargs["value"], match.root.args[0], match["scaled"].args[0])


def _is_constant(node: fx.Node) -> bool:
    """The value is a constant matrix of floats."""
    return node.op == "get_attr" and len(node.meta["shape"]) == 2 and bool(node.meta["dtype"].is_floating_point)


def _by_a_constant(match: Match) -> Term | None:
    """A linear layer, which a dynamic qconfig quantizes; a static one quantizes both operands of the product too."""
    qconfig, given = match.root.meta.get("qconfig"), arguments_of(match.root)
    plain = given["activation"] is None and given.get("factor", 1.0) == 1.0
    if not plain or not _is_constant(match["y"]) or match["x"].op == "get_attr":
        return None
    if qconfig is not None and not qconfig.is_dynamic:
        return None
    return Term("linear", (match["x"], Folded("weight", torch.t, (match["y"],))))


class _ByConstant(nn.Module):
    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(shape))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight


class _Product(nn.Module):
    def __init__(self, left: float, right: float, behind: float, *, shared: bool = False) -> None:
        super().__init__()
        self.factors, self.shared = (left, right, behind), shared

    def forward(self, x: Tensor) -> Tensor:
        left, right, behind = self.factors
        a = x * left if left != 1.0 else x
        b = x.transpose(1, 2) * right if right != 1.0 else x.transpose(1, 2)
        y = torch.matmul(a, b)
        z = y * behind if behind != 1.0 else y
        return torch.cat([z, y, a, b.transpose(1, 2)], 2) if self.shared else z


def _rows() -> tuple[Tensor]:
    return (torch.randn(2, 5, 5),)


_SCALED = op("mul_scalar", value("x"), name="scaled", where=(single_user,))

RULES = (
    Rule(
        "product_with_constant_to_linear",
        op("matmul", value("x"), value("y")),
        _by_a_constant,
        benefit=5,
        sample=lambda: (_ByConstant(5, 3), _rows()),
        near_miss=lambda: (_ByConstant(2, 5, 3), _rows()),
    ),
    Rule(
        "fold_scalar_factor_behind_into_matmul",
        op("mul_scalar", op("matmul", name="matmul", where=(single_user, _is_linear))),
        _fold_behind,
        benefit=15,
        sample=lambda: (_Product(1.0, 1.0, 0.3), _rows()),
        near_miss=lambda: (_Product(1.0, 1.0, 0.3, shared=True), _rows()),
    ),
    Rule(
        "fold_scalar_factor_of_left_into_matmul",
        op("matmul", _SCALED, value("y"), where=(_is_linear,)),
        _fold_left,
        benefit=14,
        sample=lambda: (_Product(0.3, 1.0, 1.0), _rows()),
        near_miss=lambda: (_Product(0.3, 1.0, 1.0, shared=True), _rows()),
    ),
    Rule(
        "fold_scalar_factor_of_right_into_matmul",
        op("matmul", value("y"), _SCALED, where=(_is_linear,)),
        _fold_right,
        benefit=14,
        sample=lambda: (_Product(1.0, 0.3, 1.0), _rows()),
        near_miss=lambda: (_Product(1.0, 0.3, 1.0, shared=True), _rows()),
    ),
)
