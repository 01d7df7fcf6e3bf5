"""Turn products with constants into scalar or channel factors, and fold these into the convolution or linear before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from qfx.ir.derivation import is_trainable
from qfx.ops.extents import extent_of, rank_of
from qfx.ops.table import op_of
from qfx.ops.terms import Folded, Term
from qfx.patterns.pattern import LAYERS, Match, constant, op, single_user, value
from qfx.patterns.replacement import tensor_of
from qfx.patterns.rewriter import Rule
from qfx.patterns.rules.batch_norm import arguments_of, constant_operands, name_of, plain_epilogue, with_scale
from qfx.patterns.rules.trained import trains_batch_norm


def _channel_axis(constant_shape: Sequence[int], rank: int) -> int | None:
    """The only dim along which a broadcast constant varies, or None when there are several or none."""
    if len(constant_shape) > rank:
        return None
    axes = [rank - len(constant_shape) + i for i, extent in enumerate(constant_shape) if extent != 1]
    return axes[0] if len(axes) == 1 else None


def _flat(factor: Tensor) -> Tensor:
    return factor.reshape(-1)


def _to_channel_affine(match: Match) -> Term | None:
    x, factor = match["x"], match["factor"]
    rank = rank_of(x)
    if rank is None or rank < 3 or _channel_axis(factor.meta["shape"], rank) != 1:
        return None
    channels = x.meta["shape"][1] if "shape" in x.meta else extent_of(x, 1)
    if channels != torch.Size(factor.meta["shape"]).numel():
        return None
    weight = Folded(f"{name_of(factor)}_weight", _flat, (factor,))
    return Term("channel_affine", (x, weight, None), {"activation": match.root.kwargs.get("activation")})


_SCALAR_FORM = {"mul": ("mul_scalar", 1.0), "add": ("add_scalar", 1.0), "sub": ("add_scalar", -1.0)}


def _to_scalar(match: Match) -> Term | None:
    x, factor = match["x"], match["factor"]
    rank, shape = rank_of(x), factor.meta["shape"]
    if torch.Size(shape).numel() != 1 or len(shape) > (rank or 0) or match.root.kwargs.get("activation") is not None:
        return None
    root = factor.graph.owning_module
    if is_trainable(factor) and tensor_of(root, factor).requires_grad:
        return None
    row = op_of(match.root)
    assert row is not None
    name, sign = _SCALAR_FORM[row.name]
    number = float(tensor_of(root, factor).detach())
    return Term(name, (x,), {"value": sign * number})


def _fill(value: float, length: int) -> Tensor:
    return torch.full((length,), value, dtype=torch.float32)


def _fold_scalar(match: Match) -> Term | None:
    conv = match["conv"]
    channels = extent_of(arguments_of(conv)["weight"], 0)
    if channels is None:
        return None
    value: Any = match.root.kwargs["value"]
    scale = _fill(value, channels)
    return with_scale(conv, scale, None, None)


def _fold_through_permute(match: Match) -> Term | None:
    """A factor along dim 1 after a permutation that brought the features of a linear there."""
    linear, permute, affine = match["linear"], match["permute"], arguments_of(match.root)
    dims = permute.kwargs["dims"]
    if (
        dims[1] not in (-1, len(dims) - 1)
        or trains_batch_norm(affine["weight"])
        or (affine["bias"] is not None and affine["bias"].op != "get_attr")
    ):
        return None
    scaled = with_scale(linear, affine["weight"], affine["bias"], affine["activation"])
    return scaled and Term("permute", (scaled,), dict(permute.kwargs), like=permute)


class _LayerScale(nn.Module):
    def __init__(self, shape: tuple[int, ...], *, linear: bool = False, shared: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3)
        self.linear = nn.Linear(4, 4) if linear else None
        self.gamma, self.shared = nn.Parameter(torch.rand(shape)), shared

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        if self.linear is not None:
            y = self.linear(y.permute(0, 2, 3, 1))
            z = y.permute(0, 3, 1, 2) * self.gamma
            return z + y.sum() if self.shared else z
        return torch.relu(y) * self.gamma


class _Offset(nn.Module):
    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(1)
        self.register_buffer("mean", torch.rand(shape))

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(x) - self.mean


class _Scaled(nn.Module):
    def __init__(self, *, activated: bool) -> None:
        super().__init__()
        self.conv, self.activated = nn.Conv2d(4, 4, 3), activated

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return (torch.tanh(y) if self.activated else y) * 0.3


def _images() -> tuple[Tensor]:
    return (torch.randn(2, 4, 8, 8),)


_PRODUCER = {"name": "conv", "where": (single_user, plain_epilogue, constant_operands)}
_LINEAR = op("linear", name="linear", where=(single_user, plain_epilogue, constant_operands))
_PERMUTED = op("permute", _LINEAR, name="permute", where=(single_user,))

RULES = (
    Rule(
        "turn_channel_factor_into_affine",
        op("mul", value("x"), constant("factor"), commutative=True),
        _to_channel_affine,
        benefit=4,
        sample=lambda: (_LayerScale((1, 4, 1, 1)), _images()),
        near_miss=lambda: (_LayerScale((6, 6)), _images()),
        semantics="bitwise",
    ),
    Rule(
        "turn_constant_of_one_item_into_scalar",
        op("mul add", value("x"), constant("factor"), commutative=True),
        _to_scalar,
        benefit=4,
        sample=lambda: (_LayerScale((1,)), _images()),
        near_miss=lambda: (_LayerScale((6, 6)), _images()),
        semantics="bitwise",
    ),
    Rule(
        "turn_subtracted_constant_into_scalar",
        op("sub", value("x"), constant("factor")),
        _to_scalar,
        benefit=4,
        sample=lambda: (_Offset((1,)), _images()),
        near_miss=lambda: (_Offset((8, 8)), _images()),
        semantics="bitwise",
    ),
    Rule(
        "fold_scalar_factor_into_conv",
        op("mul_scalar", op(LAYERS, **_PRODUCER)),  # type: ignore[arg-type]
        _fold_scalar,
        benefit=15,
        sample=lambda: (_Scaled(activated=False), _images()),
        near_miss=lambda: (_Scaled(activated=True), _images()),
    ),
    Rule(
        "fold_channel_affine_into_linear_through_permute",
        op("channel_affine", _PERMUTED, constant("weight"), value("bias")),
        _fold_through_permute,
        benefit=18,
        sample=lambda: (_LayerScale((4, 1, 1), linear=True), _images()),
        near_miss=lambda: (_LayerScale((4, 1, 1), linear=True, shared=True), _images()),
    ),
)  # fmt: skip
