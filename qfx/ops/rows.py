"""The rows of the op table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from qfx.ops import samples
from qfx.ops.compute import integer as integer_compute
from qfx.ops.compute import reference as compute
from qfx.ops.compute import shapes as compute_shapes
from qfx.ops.epilogue import through_float64
from qfx.ops.float_ops import reference as float_ops
from qfx.ops.float_ops import shapes as float_shapes
from qfx.ops.pointwise.reference import UNIT
from qfx.ops.pointwise.row import ROWS
from qfx.ops.pool import integer as integer_pool
from qfx.ops.pool import reference as pool
from qfx.ops.pool import shapes as pool_shapes
from qfx.ops.qdq import dynamic
from qfx.ops.qdq import reference as qdq
from qfx.ops.shape import integer as integer_move
from qfx.ops.shape import reference as shape
from qfx.ops.shape import shapes
from qfx.ops.table import Epilogue, Op, Spread, always, register, same_shape

_CLAMP: frozenset[Epilogue] = frozenset({"clamp", "table"})
_RESIDUAL: frozenset[Epilogue] = _CLAMP | {"residual"}

_Fn = Callable[..., Any]
_GEMM = "gemm: QFX_GEMM QFX_GEMM_S8 QFX_GEMM_STREAMS"
_CONV = f"{_GEMM} QFX_GEMM_PAIRED, conv: QFX_CONV_DEPTHWISE QFX_CONV_SLIDE QFX_CONV_AFFINE"
_MAXIMUM, _AVERAGE = "pool: MaxWindow", "pool: AverageWindow"
_NORM = "glue: NormalizeRow"


def _product_spread(x: object, y: object, **attributes: object) -> Spread | None:
    return "expands" if x is y else None


def _uncovered_interpolation(*, mode: str, **attributes: object) -> str | None:
    covered = mode in ("nearest", "linear", "bilinear", "trilinear")
    return None if covered else f"{mode} interpolation is computed in float"


def _matrix(fn: _Fn, integer: _Fn, shape: _Fn, **cells: Any) -> Op:
    cells = {"tensors": ("x", "residual"), "epilogues": _RESIDUAL, "kernels": _CONV, **cells}
    return Op(fn.__name__, fn, qparams="own", weights=("weight",), shape=shape, integer=integer, family="conv", **cells)


def _binary(fn: _Fn, integer: _Fn, **cells: Any) -> Op:
    cells = {"shape": compute_shapes.broadcast, "floats": "fn", "functional": fn.__name__, **cells}
    return Op(
        fn.__name__, fn, ("x", "y"), "own", keeps_dtype=True, epilogues=_CLAMP, integer=integer, family=fn.__name__,
        **cells,
    )  # fmt: skip


def _arithmetic(fn: _Fn, integer: _Fn, **cells: Any) -> Op:
    return _binary(fn, integer, any_rank=True, kernels="elementwise: Binary Lookup", **cells)


def _pool(fn: _Fn, integer: _Fn, shape: _Fn, **cells: Any) -> Op:
    cells = {"qparams": "share", "layout": "image", "family": fn.__name__, **cells}
    return Op(fn.__name__, fn, ("x",), shape=shape, integer=integer, floats="integer", **cells)


def _reduction(fn: _Fn, integer: _Fn, **cells: Any) -> Op:
    return _pool(fn, integer, pool_shapes.reduction, layout=None, reduces=True, follows_layout=False, **cells)


def _join(fn: _Fn, shape: _Fn, **cells: Any) -> Op:
    integer = partial(integer_move.join, fn)
    return Op(
        fn.__name__, fn, ("tensors",), "share", shape=shape, integer=integer, family="concat", floats="fn", **cells
    )


def _move(fn: _Fn, family: str, shape: _Fn = same_shape, **cells: Any) -> Op:
    cells = {"integer": partial(integer_move.move, fn), **cells}
    return Op(fn.__name__, fn, ("x",), "share", shape=shape, family=family, floats="fn", **cells)


def _permutation(fn: _Fn, shape: _Fn = same_shape, **cells: Any) -> Op:
    return _move(fn, "permute", shape, kernels="move: TransposeU8 TransposeU32", **cells)


def _view(fn: _Fn, shape: _Fn, **cells: Any) -> Op:
    return _move(fn, "reshape", shape, follows_layout=False, **cells)


def _float_op(fn: _Fn, family: str, **cells: Any) -> Op:
    cells = {"tensors": ("x",), "qparams": "float", **cells}
    return Op(fn.__name__, fn, integer=partial(through_float64, fn), family=family, floats="integer", **cells)


def _norm(fn: _Fn, family: str, **cells: Any) -> Op:
    return _float_op(fn, family, functional=fn.__name__, kernels=_NORM, **cells)


_COMPUTE = (
    _matrix(
        compute.conv, integer_compute.conv, compute_shapes.conv, sums="weights", layout="image", any_rank=True,
        functional="conv1d, conv2d or conv3d",
    ),
    _matrix(
        compute.linear, integer_compute.linear, compute_shapes.linear, sums="weights", layout="rows", any_rank=True,
        functional="linear",
    ),
    _matrix(
        compute.channel_affine, integer_compute.channel_affine, compute_shapes.channel_affine, tensors=("x",),
        epilogues=_CLAMP, floats="fn", layout="image", functional="batch_norm",
    ),
    _arithmetic(compute.add, integer_compute.add),
    _arithmetic(compute.sub, integer_compute.sub),
    _arithmetic(compute.mul, integer_compute.mul, spread=_product_spread),
    _binary(
        compute.matmul, integer_compute.matmul, shape=compute_shapes.matmul, floats="integer", sums="operands",
        layout="rows", by_lengths=True, follows_layout=False, kernels=_GEMM,
    ),
)  # fmt: skip

_POOLS = (
    _pool(pool.max_pool, integer_pool.max_pool, pool_shapes.pool, any_rank=True, kernels=_MAXIMUM),
    _pool(pool.avg_pool, integer_pool.avg_pool, pool_shapes.pool, any_rank=True, rounds=True, kernels=_AVERAGE),
    _pool(
        pool.adaptive_avg_pool, integer_pool.adaptive_avg_pool, pool_shapes.adaptive, any_rank=True, rounds=True,
        kernels=_AVERAGE,
    ),
    _pool(
        pool.adaptive_max_pool, integer_pool.adaptive_max_pool, pool_shapes.adaptive, any_rank=True, kernels=_MAXIMUM
    ),
    _pool(
        pool.interpolate, integer_pool.interpolate, pool_shapes.interpolate, uncovered=_uncovered_interpolation,
        computed=("size",), rounds=True, kernels="pool: Linear LinearExact",
    ),
    _reduction(
        pool.mean, integer_pool.mean, qparams="own", any_rank=True, keeps_range=True, kernels=f"{_AVERAGE} Sum"
    ),
    replace(
        _reduction(
            pool.sum_, integer_pool.sum_, qparams="own", family="mean", keeps_dtype=True, by_lengths=True,
            kernels=f"{_AVERAGE} Sum",
        ),
        name="sum",
    ),
    _reduction(pool.amax, integer_pool.amax, family="adaptive_max_pool", kernels=_MAXIMUM),
)  # fmt: skip

_MOVES = (
    _join(shape.cat, shapes.cat),
    _join(shape.stack, shapes.stack, follows_layout=False),
    _move(shape.pad, "pad", shapes.pad, integer=integer_move.pad, any_rank=True),
    _permutation(shape.pixel_shuffle, shapes.pixel_shuffle, layout="image"),
    _permutation(shape.pixel_unshuffle, shapes.pixel_unshuffle, layout="image"),
    _permutation(shape.channel_shuffle, layout="image"),
    _permutation(shape.permute, shapes.permute, layout="rows"),
    _permutation(shape.transpose, shapes.transpose),
    _view(shape.reshape, shapes.reshape, layout="rows"),
    _view(shape.flatten, shapes.flatten, layout="rows"),
    _view(shape.squeeze, shapes.squeeze, by_lengths=True),
    _view(shape.unsqueeze, shapes.unsqueeze),
    replace(_move(shape.slice_, "slice", shapes.slice_, computed=("start", "end")), name="slice"),
    _move(shape.select, "slice", shapes.select, computed=("index",), follows_layout=False),
    _move(shape.expand, "expand", shapes.expand, follows_layout=False),
    _move(shape.dropout, "reshape"),
)

_FLOAT_OPS = (
    _float_op(float_ops.softmax, "softmax", qparams="fixed", fixed=UNIT),
    _float_op(float_ops.causal_softmax, "softmax", qparams="fixed", fixed=UNIT),
    _float_op(float_ops.log_softmax, "log_softmax"),
    _norm(float_ops.layer_norm, "layer_norm", shape=float_shapes.layer_norm, layout="rows"),
    _norm(float_ops.group_norm, "group_norm", layout="image"),
    _norm(float_ops.instance_norm, "group_norm", layout="image"),
    _float_op(
        float_ops.div, "div_f32", tensors=("x", "y"), shape=compute_shapes.broadcast, any_rank=True,
        spread=always("contracts"),
    ),
)  # fmt: skip

_LEVELS = (
    Op("size", shape.size, ("x",), "none", shape=None),
    Op(
        "quantize", qdq.quantize, ("x",), "none", family="quantize", any_rank=True,
        kernels="elementwise: Quantize QuantizePlanar3",
    ),
    Op(
        "dequantize", qdq.dequantize, ("q",), "none", family="dequantize", any_rank=True,
        kernels="elementwise: Dequantize",
    ),
    Op("requantize_dynamic", dynamic.requantize_dynamic, ("x",), "none", family="linear_dynamic", kernels=_GEMM + " QFX_GEMM_PAIRED"),
)  # fmt: skip


def _with_samples(row: Op) -> Op:
    return replace(row, samples=samples.GOOD[row.name], bad_samples=samples.BAD[row.name])


for _row in (
    *map(_with_samples, _COMPUTE + _POOLS + _MOVES),
    *ROWS,
    *map(_with_samples, _FLOAT_OPS + _LEVELS),
):
    register(_row)
