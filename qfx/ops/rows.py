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
from qfx.ops.compute import shapes as compute_shapes
from qfx.ops.epilogue import through_float64
from qfx.ops.float_ops import reference as float_ops
from qfx.ops.float_ops import shapes as float_shapes
from qfx.ops.pointwise import float64
from qfx.ops.pointwise import integer as integer_pointwise
from qfx.ops.pointwise import reference as pointwise
from qfx.ops.pool import integer as integer_pool
from qfx.ops.pool import reference as pool
from qfx.ops.pool import shapes as pool_shapes
from qfx.ops.qdq import dynamic
from qfx.ops.qdq import reference as qdq
from qfx.ops.shape import integer as integer_move
from qfx.ops.shape import reference as shape
from qfx.ops.shape import shapes
from qfx.ops.table import Epilogue, FloatStep, Op, QParamsKind, Spread, no_spread, register, same_shape

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


_INTEGER = {
    "relu", "clamp", "abs", "neg", "square", "sign", "floor", "ceil", "round", "add_scalar", "rsub_scalar",
    "mul_scalar", "pow_scalar", "threshold",
}  # fmt: skip
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


def _matrix(fn: _Fn, integer: _Fn, shape: _Fn, tensors: tuple[str, ...], epilogues: frozenset[Epilogue]) -> Op:
    return Op(fn.__name__, fn, tensors, "own", ("weight",), shape, epilogues=epilogues, integer=integer, family="conv")


def _binary(fn: _Fn, integer: _Fn, shape: _Fn = compute_shapes.broadcast, floats: FloatStep = "fn") -> Op:
    return Op(
        fn.__name__, fn, ("x", "y"), "own", shape=shape, keeps_dtype=True, epilogues=_CLAMP, integer=integer,
        family=fn.__name__, floats=floats,
    )  # fmt: skip


def _pool(fn: _Fn, integer: _Fn, shape: _Fn, qparams: QParamsKind = "share") -> Op:
    return Op(fn.__name__, fn, ("x",), qparams, shape=shape, integer=integer, family=fn.__name__, floats="integer")


def _join(fn: _Fn, shape: _Fn) -> Op:
    integer = partial(integer_move.join, fn)
    return Op(fn.__name__, fn, ("tensors",), "share", shape=shape, integer=integer, family="concat", floats="fn")


def _move(fn: _Fn, family: str, shape: _Fn = same_shape, name: str | None = None) -> Op:
    integer = partial(integer_move.move, fn)
    return Op(name or fn.__name__, fn, ("x",), "share", shape=shape, integer=integer, family=family, floats="fn")


def _function(name: str, qparams: QParamsKind = "own", fixed: QParams | None = None) -> Op:
    attribute = name if name in vars(pointwise) else f"{name}_"
    fn, exact = getattr(pointwise, attribute), getattr(float64, attribute)
    integer = partial(integer_pointwise.pointwise, exact)
    return Op(
        name, fn, ("x",), qparams, fixed=fixed, integer=integer, pointwise=exact, family="lookup", floats="integer",
        spread=_SPREADS.get(name, no_spread), keeps_dtype=name in _INTEGER,
    )  # fmt: skip


def _float_op(fn: _Fn, family: str, tensors: tuple[str, ...] = ("x",), integer: _Fn | None = None) -> Op:
    integer = integer or partial(through_float64, fn)
    return Op(fn.__name__, fn, tensors, "float", integer=integer, family=family, floats="integer")


_COMPUTE = (
    _matrix(compute.conv, integer_compute.conv, compute_shapes.conv, ("x", "residual"), _RESIDUAL),
    _matrix(compute.linear, integer_compute.linear, compute_shapes.linear, ("x", "residual"), _RESIDUAL),
    replace(
        _matrix(compute.channel_affine, integer_compute.channel_affine, compute_shapes.channel_affine, ("x",), _CLAMP),
        floats="fn",
    ),
    _binary(compute.add, integer_compute.add),
    _binary(compute.sub, integer_compute.sub),
    replace(_binary(compute.mul, integer_compute.mul), spread=_product_spread),
    _binary(compute.matmul, integer_compute.matmul, compute_shapes.matmul, "integer"),
)

_POOLS = (
    _pool(pool.max_pool, integer_pool.max_pool, pool_shapes.pool),
    _pool(pool.avg_pool, integer_pool.avg_pool, pool_shapes.pool),
    _pool(pool.adaptive_avg_pool, integer_pool.adaptive_avg_pool, pool_shapes.adaptive),
    _pool(pool.adaptive_max_pool, integer_pool.adaptive_max_pool, pool_shapes.adaptive),
    replace(_pool(pool.interpolate, integer_pool.interpolate, pool_shapes.interpolate), covers=_covers_interpolate),
    _pool(pool.mean, integer_pool.mean, pool_shapes.reduction, "own"),
    replace(
        _pool(pool.sum_, integer_pool.sum_, pool_shapes.reduction, "own"), name="sum", family="mean", keeps_dtype=True
    ),
    replace(_pool(pool.amax, integer_pool.amax, pool_shapes.reduction), family="adaptive_max_pool"),
)

_MOVES = (
    _join(shape.cat, shapes.cat),
    _join(shape.stack, shapes.stack),
    replace(_move(shape.pad, "pad", shapes.pad), integer=integer_move.pad),
    _move(shape.pixel_shuffle, "permute", shapes.pixel_shuffle),
    _move(shape.pixel_unshuffle, "permute", shapes.pixel_unshuffle),
    _move(shape.channel_shuffle, "permute"),
    _move(shape.permute, "permute", shapes.permute),
    _move(shape.transpose, "permute", shapes.transpose),
    _move(shape.reshape, "reshape", shapes.reshape),
    _move(shape.flatten, "reshape", shapes.flatten),
    _move(shape.squeeze, "reshape", shapes.squeeze),
    _move(shape.unsqueeze, "reshape", shapes.unsqueeze),
    _move(shape.slice_, "slice", shapes.slice_, name="slice"),
    _move(shape.select, "slice", shapes.select),
    _move(shape.expand, "expand", shapes.expand),
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
    replace(_float_op(float_ops.layer_norm, "layer_norm"), shape=float_shapes.layer_norm),
    _float_op(float_ops.group_norm, "group_norm"),
    _float_op(float_ops.instance_norm, "group_norm"),
    replace(
        _float_op(float_ops.div, "div_f32", ("x", "y")), shape=compute_shapes.broadcast, spread=_always("contracts")
    ),
)

_LEVELS = (
    Op("size", shape.size, ("x",), "none", shape=None),
    Op("quantize", qdq.quantize, ("x",), "none", family="quantize"),
    Op("dequantize", qdq.dequantize, ("q",), "none", family="dequantize"),
    Op("requantize_dynamic", dynamic.requantize_dynamic, ("x",), "none", family="linear_dynamic"),
)

for _row in _COMPUTE + _POOLS + _MOVES + _POINTWISE + _FLOAT_OPS + _LEVELS:
    register(replace(_row, samples=samples.GOOD[_row.name], bad_samples=samples.BAD[_row.name]))
