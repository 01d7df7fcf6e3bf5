"""The rows of the op table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from qfx.ir.types import QDType, QParams
from qfx.ops import samples
from qfx.ops.compute import integer as integer_compute
from qfx.ops.compute import reference as compute
from qfx.ops.epilogue import through_float64
from qfx.ops.float_ops import reference as float_ops
from qfx.ops.pointwise import float64
from qfx.ops.pointwise import integer as integer_pointwise
from qfx.ops.pointwise import reference as pointwise
from qfx.ops.pool import integer as integer_pool
from qfx.ops.pool import reference as pool
from qfx.ops.qdq import dynamic
from qfx.ops.qdq import reference as qdq
from qfx.ops.shape import integer as integer_move
from qfx.ops.shape import reference as shape
from qfx.ops.table import Epilogue, FloatStep, Op, QParamsKind, Spread, no_spread, register

_CLAMP: frozenset[Epilogue] = frozenset({"clamp", "table"})
_RESIDUAL: frozenset[Epilogue] = _CLAMP | {"residual"}
_UNIT = QParams(1.0 / 256.0, 0, QDType.quint8)
_SIGNED_UNIT = QParams(2.0 / 256.0, 128, QDType.quint8)

_Fn = Callable[..., Any]


def _power_spread(x: object, *, exponent: float) -> Spread | None:
    if exponent < 0:
        return "divides"
    return "expands" if exponent > 1 else ("contracts" if 0 < exponent < 1 else None)


def _product_spread(x: object, y: object, **attributes: object) -> Spread | None:
    return "expands" if x is y else None


def _always(spread: Spread) -> Callable[..., Spread]:
    return lambda *operands, **attributes: spread


_SPREADS: dict[str, Callable[..., Spread | None]] = {
    "square": _always("expands"),
    "exp": _always("expands"),
    "pow_scalar": _power_spread,
    "sqrt": _always("contracts"),
    "log": _always("contracts"),
    "rsqrt": _always("divides"),
    "reciprocal": _always("divides"),
    "rdiv_scalar": _always("divides"),
}


def _covers_interpolate(*, mode: str, **attributes: object) -> bool:
    return mode in ("nearest", "linear", "bilinear", "trilinear")


def _matrix(name: str, fn: _Fn, integer: _Fn, tensors: tuple[str, ...], epilogues: frozenset[Epilogue]) -> Op:
    return Op(name, fn, tensors, "own", ("weight",), epilogues=epilogues, integer=integer, family="conv")


def _binary(name: str, fn: _Fn, integer: _Fn) -> Op:
    floats: FloatStep = "integer" if name == "matmul" else "fn"
    return Op(name, fn, ("x", "y"), "own", epilogues=_CLAMP, integer=integer, family=name, floats=floats)


def _pool(fn: _Fn, integer: _Fn, qparams: QParamsKind = "share") -> Op:
    return Op(fn.__name__, fn, ("x",), qparams, integer=integer, family=fn.__name__, floats="integer")


def _join(fn: _Fn) -> Op:
    integer = partial(integer_move.join, fn)
    return Op(fn.__name__, fn, ("tensors",), "share", integer=integer, family="concat", floats="fn")


def _move(fn: _Fn, family: str, name: str | None = None) -> Op:
    integer = partial(integer_move.move, fn)
    return Op(name or fn.__name__, fn, ("x",), "share", integer=integer, family=family, floats="fn")


def _function(name: str, qparams: QParamsKind = "own", fixed: QParams | None = None) -> Op:
    attribute = name if name in vars(pointwise) else f"{name}_"
    fn, exact = getattr(pointwise, attribute), getattr(float64, attribute)
    integer = partial(integer_pointwise.pointwise, exact)
    return Op(
        name, fn, ("x",), qparams, fixed=fixed, integer=integer, pointwise=exact, family="lookup", floats="integer",
        spread=_SPREADS.get(name, no_spread),
    )  # fmt: skip


def _float_op(fn: _Fn, family: str, tensors: tuple[str, ...] = ("x",), integer: _Fn | None = None) -> Op:
    integer = integer or partial(through_float64, fn)
    return Op(fn.__name__, fn, tensors, "float", integer=integer, family=family, floats="integer")


_COMPUTE = (
    _matrix("conv", compute.conv, integer_compute.conv, ("x", "residual"), _RESIDUAL),
    _matrix("linear", compute.linear, integer_compute.linear, ("x", "residual"), _RESIDUAL),
    replace(
        _matrix("channel_affine", compute.channel_affine, integer_compute.channel_affine, ("x",), _CLAMP), floats="fn"
    ),
    _binary("add", compute.add, integer_compute.add),
    _binary("sub", compute.sub, integer_compute.sub),
    replace(_binary("mul", compute.mul, integer_compute.mul), spread=_product_spread),
    _binary("matmul", compute.matmul, integer_compute.matmul),
)

_POOLS = (
    _pool(pool.max_pool, integer_pool.max_pool),
    _pool(pool.avg_pool, integer_pool.avg_pool),
    _pool(pool.adaptive_avg_pool, integer_pool.adaptive_avg_pool),
    _pool(pool.adaptive_max_pool, integer_pool.adaptive_max_pool),
    replace(_pool(pool.interpolate, integer_pool.interpolate), covers=_covers_interpolate),
    _pool(pool.mean, integer_pool.mean, "own"),
    replace(_pool(pool.sum_, integer_pool.sum_, "own"), name="sum", family="mean"),
    replace(_pool(pool.amax, integer_pool.amax), family="adaptive_max_pool"),
)

_MOVES = (
    _join(shape.cat),
    _join(shape.stack),
    Op("pad", shape.pad, ("x",), "share", integer=integer_move.pad, family="pad", floats="fn"),
    _move(shape.pixel_shuffle, "permute"),
    _move(shape.pixel_unshuffle, "permute"),
    _move(shape.channel_shuffle, "permute"),
    _move(shape.permute, "permute"),
    _move(shape.transpose, "permute"),
    _move(shape.reshape, "reshape"),
    _move(shape.flatten, "reshape"),
    _move(shape.squeeze, "reshape"),
    _move(shape.unsqueeze, "reshape"),
    _move(shape.slice_, "slice", "slice"),
    _move(shape.select, "slice"),
    _move(shape.expand, "expand"),
    _move(shape.dropout, "reshape"),
)

_ACTIVATIONS = (
    "relu", "clamp", "silu", "gelu", "hardswish", "leaky_relu", "elu", "celu", "selu", "softplus", "mish",
    "logsigmoid", "softsign", "tanhshrink", "hardshrink", "softshrink", "threshold",
)  # fmt: skip
_ARITHMETIC = (
    "abs", "neg", "square", "pow_scalar", "erf", "sin", "cos", "exp", "sqrt", "add_scalar", "rsub_scalar", "mul_scalar",
    "floor", "ceil", "round", "sign",
)  # fmt: skip
_WITH_POLES = ("log", "rsqrt", "reciprocal", "rdiv_scalar")

_POINTWISE = (
    *(_function(name) for name in _ACTIVATIONS + _ARITHMETIC),
    *(_function(name, "float") for name in _WITH_POLES),
    _function("sigmoid", "fixed", _UNIT),
    _function("hardsigmoid", "fixed", _UNIT),
    _function("tanh", "fixed", _SIGNED_UNIT),
)

_FLOAT_OPS = (
    replace(_float_op(float_ops.softmax, "softmax"), qparams="fixed", fixed=_UNIT),
    replace(_float_op(float_ops.causal_softmax, "softmax"), qparams="fixed", fixed=_UNIT),
    _float_op(float_ops.log_softmax, "log_softmax"),
    _float_op(float_ops.layer_norm, "layer_norm"),
    _float_op(float_ops.group_norm, "group_norm"),
    _float_op(float_ops.instance_norm, "group_norm"),
    replace(_float_op(float_ops.div, "div_f32", ("x", "y")), spread=_always("contracts")),
)

_LEVELS = (
    Op("size", shape.size, ("x",), "none"),
    Op("quantize", qdq.quantize, ("x",), "none", family="quantize"),
    Op("dequantize", qdq.dequantize, ("q",), "none", family="dequantize"),
    Op("requantize_dynamic", dynamic.requantize_dynamic, ("x",), "none", family="linear_dynamic"),
)

for _row in _COMPUTE + _POOLS + _MOVES + _POINTWISE + _FLOAT_OPS + _LEVELS:
    register(replace(_row, samples=samples.GOOD[_row.name], bad_samples=samples.BAD[_row.name]))
