"""The rows of ops that are computed in float, and the shapes of their results."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from qfx.ops.compute.rows import broadcast_shape
from qfx.ops.dims import Lengths
from qfx.ops.epilogue import through_float64
from qfx.ops.float_ops import integer, reference, samples
from qfx.ops.pointwise.reference import UNIT
from qfx.ops.table import Function, Op, always, with_samples


def layer_norm_shape(x: Lengths, *operands: Any, normalized_shape: Sequence[int], **attributes: Any) -> Lengths:
    if len(normalized_shape) > len(x):
        raise ValueError(f"a norm over {len(normalized_shape)} dims of a value of rank {len(x)}")
    return (*x[: len(x) - len(normalized_shape)], *normalized_shape)


# ---------------------------------------------------------------- rows

_SOFTMAX = "float_ops: SoftmaxRow SoftmaxColumns"


def _float_op(fn: Function, family: str, **cells: Any) -> Op:
    cells = {"tensors": ("x",), "qparams": "float", "integer": partial(through_float64, fn), **cells}
    return Op(fn.__name__, fn, family=family, floats="integer", **cells)


def _norm(fn: Function, family: str, **cells: Any) -> Op:
    return _float_op(fn, family, functional=fn.__name__, **cells)


ROWS = with_samples(
    samples.GOOD,
    samples.BAD,
    _float_op(
        reference.softmax, "softmax", integer=integer.softmax, qparams="fixed", fixed=UNIT, kernels=_SOFTMAX,
    ),
    _float_op(
        reference.causal_softmax, "softmax", integer=integer.causal_softmax, qparams="fixed", fixed=UNIT,
        kernels="float_ops: SoftmaxRow",
    ),
    _float_op(reference.log_softmax, "log_softmax", integer=integer.log_softmax, kernels=_SOFTMAX),
    _norm(
        reference.layer_norm, "layer_norm", integer=integer.layer_norm, shape=layer_norm_shape, layout="rows",
        has_outliers=True, kernels="float_ops: NormalizeRow",
    ),
    _float_op(
        reference.rms_norm, "rms_norm", integer=integer.rms_norm, shape=layer_norm_shape, layout="rows",
        has_outliers=True, kernels="float_ops: RmsRow",
    ),
    _norm(reference.group_norm, "group_norm", layout="image"),
    _norm(reference.instance_norm, "group_norm", layout="image"),
    _float_op(
        reference.div, "div_f32", tensors=("x", "y"), shape=broadcast_shape, any_rank=True,
        spread=always("contracts"),
    ),
)  # fmt: skip
