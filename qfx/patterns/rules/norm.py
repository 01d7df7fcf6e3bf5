"""RMS norms that are written out, as one op."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from qfx.ops.extents import extent_of, rank_of
from qfx.ops.table import is_op
from qfx.ops.terms import Term
from qfx.patterns.pattern import Match, Pattern, constant, op, single_user, value
from qfx.patterns.rewriter import Rule
from qfx.patterns.rules.batch_norm import arguments_of


def _is_square(node: fx.Node) -> bool:
    if is_op(node, "mul"):
        return node.args[0] is node.args[1] and _no_clamp(node)
    return not is_op(node, "pow_scalar") or _exponent(node) == 2.0


def _is_root(node: fx.Node) -> bool:
    return not is_op(node, "pow_scalar") or _exponent(node) == 0.5


def _is_inverse_root(node: fx.Node) -> bool:
    return not is_op(node, "pow_scalar") or _exponent(node) == -0.5


def _exponent(power: fx.Node) -> float:
    exponent: Any = power.kwargs["exponent"]
    return float(exponent)


def _no_clamp(node: fx.Node) -> bool:
    return node.kwargs.get("activation") is None


_SQUARE = op("mul square pow_scalar", value("x"), where=(_is_square, single_user))
_OFFSET = op("add_scalar", op("mean", _SQUARE, name="mean", where=(single_user,)), name="eps", where=(single_user,))
_ROOT = op("sqrt pow_scalar", _OFFSET, where=(_is_root, single_user))
_INVERSE = op("rsqrt pow_scalar", _OFFSET, where=(_is_inverse_root, single_user))
_RECIPROCAL = op("reciprocal", _ROOT, where=(single_user,))


def _product(inverse: Pattern) -> Pattern:
    return op("mul", value("x"), inverse, commutative=True, where=(_no_clamp,))


def _last_length(x: Any) -> int | None:
    return int(x.meta["shape"][-1]) if x.meta.get("shape") else extent_of(x, -1)


def _to_norm(match: Match) -> Term | None:
    x, mean, eps = match["x"], match["mean"].kwargs, match["eps"].kwargs["value"]
    rank, length = rank_of(x), _last_length(x)
    last = ((-1,),) if rank is None else ((-1,), (rank - 1,))
    if tuple(mean["dims"] or ()) not in last or not mean["keepdim"] or length is None or eps < 0:
        return None
    return Term("rms_norm", (x, None), {"normalized_shape": (length,), "eps": eps})


def _with_weight(match: Match) -> Term | None:
    norm, weight = match["norm"], match["weight"]
    given = arguments_of(norm)
    if given["weight"] is not None or tuple(weight.meta["shape"]) != tuple(given["normalized_shape"]):
        return None
    return Term("rms_norm", (given["x"], weight), dict(norm.kwargs), like=norm)


def _size_of_operand(match: Match) -> Term:
    return Term("size", (match["x"],), dict(match.root.kwargs), like=match.root)


class _WrittenOut(nn.Module):
    """Of what a linear gives; ``form``: how its root divides; ``dim``: over which dim."""

    def __init__(self, form: str = "rsqrt", *, dim: int = -1) -> None:
        super().__init__()
        self.linear, self.form, self.dim = nn.Linear(6, 8), form, dim

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x)
        mean = y.pow(2).mean(self.dim, keepdim=True) + 1e-6
        if self.form == "rsqrt":
            return y * torch.rsqrt(mean)
        return y / torch.sqrt(mean) if self.form == "div" else torch.reciprocal(torch.sqrt(mean)) * y


class _Weighted(nn.Module):
    def __init__(self, length: int) -> None:
        super().__init__()
        self.norm, self.gain = nn.RMSNorm(8, elementwise_affine=False), nn.Parameter(torch.rand(length) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * self.norm(x)


class _Sized(nn.Module):
    """Reads the size of what a norm gives, or of what it gets."""

    def __init__(self, *, before: bool = False) -> None:
        super().__init__()
        self.norm, self.before = nn.RMSNorm(6), before

    def forward(self, x: Tensor) -> Tensor:
        x = x + 1.0
        y = self.norm(x)
        return y.reshape((x if self.before else y).size(0), -1)


def _rows(length: int = 6) -> tuple[Tensor]:
    return (torch.randn(3, 5, length),)


RULES = (
    Rule(
        "recognize_rms_norm",
        _product(_INVERSE),
        _to_norm,
        benefit=12,
        sample=lambda: (_WrittenOut(), _rows()),
        near_miss=lambda: (_WrittenOut(dim=1), _rows()),
    ),
    Rule(
        "recognize_rms_norm_by_a_quotient",
        op("div", value("x"), _ROOT),
        _to_norm,
        benefit=12,
        sample=lambda: (_WrittenOut("div"), _rows()),
        near_miss=lambda: (_WrittenOut("div", dim=1), _rows()),
    ),
    Rule(
        "recognize_rms_norm_by_a_reciprocal",
        _product(_RECIPROCAL),
        _to_norm,
        benefit=13,
        sample=lambda: (_WrittenOut("reciprocal"), _rows()),
        near_miss=lambda: (_WrittenOut("reciprocal", dim=1), _rows()),
    ),
    Rule(
        "scale_rms_norm",
        op("mul", op("rms_norm", name="norm", where=(single_user,)), constant("weight"), commutative=True,
           where=(_no_clamp,)),
        _with_weight,
        benefit=11,
        sample=lambda: (_Weighted(8), _rows(8)),
        near_miss=lambda: (_Weighted(1), _rows(8)),
    ),
    Rule(
        "read_sizes_in_front_of_rms_norm",
        op("size", op("rms_norm", value("x"))),
        _size_of_operand,
        benefit=3,
        sample=lambda: (_Sized(), _rows()),
        near_miss=lambda: (_Sized(before=True), _rows()),
        semantics="bitwise",
    ),
)  # fmt: skip
