"""Pooling, mean, sum, maximum and interpolation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import fx

from qfx.lowering.emit import Emission, Order, Physical, channels_last, code_of, emits, identity
from qfx.ops.calls import arguments
from qfx.ops.table import op_at
from qfx.runtime import steps
from qfx.runtime.writing import Step


def _image(emission: Emission, node: fx.Node, window: str | None = None) -> tuple[dict[str, Any], Physical]:
    """The arguments, and the operand as ``[N, *spatial, C]``: one image is a batch of one.

    Args:
        emission: The program.
        node: The op.
        window: The argument with one entry a spatial dim; None where the operand always has a batch.
    """
    op = op_at(node)
    given = arguments(op, node)
    value = emission.value(given["x"])
    if window is not None:
        value = emission.with_rank(node, value, len(given[window]) + 2)
    return given, emission.in_order(node, value, channels_last(value.rank))


def _is_coded(node: fx.Node) -> bool:
    kind: str = node.meta["value_type"].kind
    return kind == "code"


def _with_rank_of_operand(emission: Emission, node: fx.Node, made: Physical) -> Physical:
    """``made`` without a batch dim if the op's operand has none."""
    source = node.args[0]
    assert isinstance(source, fx.Node)
    return emission.to_rank(node, made, emission.value(source).rank)


class _Average(NamedTuple):
    """What rounds the result of an averaging step."""

    ratio: float
    x_zero_point: int
    zero_point: int


def _average(node: fx.Node) -> _Average:
    source = node.args[0]
    assert isinstance(source, fx.Node)
    s_x, z_x, _, _ = code_of(source.meta["value_type"].qparams)
    s_y, z_y, _, _ = code_of(node.meta["value_type"].qparams)
    return _Average(s_x / s_y, z_x, z_y)


@emits("max_pool")
def max_pool(emission: Emission, node: fx.Node) -> Physical:
    given, x = _image(emission, node, "kernel")
    make = steps.max_pool if _is_coded(node) else steps.max_pool_f32
    step = make(
        x.id,
        kernel=list(given["kernel"]),
        stride=list(given["stride"]),
        padding_lo=list(given["padding"]),
        padding_hi=list(given["padding"]),
        dilation=list(given["dilation"]),
        ceil_mode=bool(given["ceil_mode"]),
    )
    return _with_rank_of_operand(emission, node, emission.step(node, step, x.order))


@emits("avg_pool")
def avg_pool(emission: Emission, node: fx.Node) -> Physical:
    given, x = _image(emission, node, "kernel")
    kernel, stride, padding = (list(given[name]) for name in ("kernel", "stride", "padding"))
    ceil, padded, divisor = given["ceil_mode"], given["count_include_pad"], int(given["divisor_override"] or 0)
    if _is_coded(node):
        ratio, z_x, z_y = _average(node)
        step = steps.avg_pool(
            x.id, kernel=kernel, stride=stride, padding_lo=padding, padding_hi=padding, ceil_mode=bool(ceil),
            count_include_pad=bool(padded), divisor=divisor, ratio=ratio, x_zero_point=z_x, zero_point=z_y,
        )  # fmt: skip
    else:
        step = steps.avg_pool_f32(
            x.id, kernel=kernel, stride=stride, padding_lo=padding, padding_hi=padding, ceil_mode=bool(ceil),
            count_include_pad=bool(padded), divisor=divisor,
        )  # fmt: skip
    return _with_rank_of_operand(emission, node, emission.step(node, step, x.order))


@emits("adaptive_max_pool")
def adaptive_max_pool(emission: Emission, node: fx.Node) -> Physical:
    given, x = _image(emission, node, "output_size")
    make = steps.adaptive_max_pool if _is_coded(node) else steps.adaptive_max_pool_f32
    step = make(x.id, output_size=_output_size(given))
    return _with_rank_of_operand(emission, node, emission.step(node, step, x.order))


@emits("adaptive_avg_pool")
def adaptive_avg_pool(emission: Emission, node: fx.Node) -> Physical:
    given, x = _image(emission, node, "output_size")
    size = _output_size(given)
    if _is_coded(node):
        ratio, z_x, z_y = _average(node)
        step = steps.adaptive_avg_pool(x.id, output_size=size, ratio=ratio, x_zero_point=z_x, zero_point=z_y)
    else:
        step = steps.adaptive_avg_pool_f32(x.id, output_size=size)
    return _with_rank_of_operand(emission, node, emission.step(node, step, x.order))


def _output_size(given: dict[str, Any]) -> list[int]:
    return [0 if s is None else s for s in given["output_size"]]


@emits("mean", "sum")
def mean(emission: Emission, node: fx.Node) -> Physical:
    """A sum is a mean in other units: annotation sees to it that its count is the same for all inputs."""
    op = op_at(node)
    if not _is_coded(node):
        return _reduction(emission, node, steps.mean_f32 if op.name == "mean" else steps.sum_f32)
    given = arguments(op, node)
    x, (ratio, z_x, z_y) = emission.value(given["x"]), _average(node)
    dims = _reduced(given, x)
    if op.name == "sum":
        shape = given["x"].meta["shape"]
        ratio *= float(math.prod(shape[d] for d in dims))
    axes, keepdim = sorted(x.order.index(d) for d in dims), bool(given["keepdim"])
    step = steps.mean(x.id, axes=axes, keepdim=keepdim, ratio=ratio, x_zero_point=z_x, zero_point=z_y)
    made = emission.step(node, step, x.order if keepdim else _left(x, dims))
    return emission.within_range(node, made)


def _reduced(given: dict[str, Any], x: Physical) -> list[int]:
    """The logical dims that go."""
    return sorted({d % x.rank for d in given["dims"]}) if given["dims"] else list(range(x.rank))


def _left(x: Physical, dims: list[int]) -> Order:
    """The order of ``x`` without the logical dims ``dims``."""
    left = [d for d in range(x.rank) if d not in dims]
    return tuple(left.index(d) for d in x.order if d not in dims)


@emits("amax")
def amax(emission: Emission, node: fx.Node) -> Physical:
    """On codes a global max pool."""
    return _reduction(emission, node, steps.amax_f32)


def _reduction(emission: Emission, node: fx.Node, make: Callable[[int], Step]) -> Physical:
    """Over rows ``[outer, reduced, inner]``: ``make`` on floats, the largest of codes."""
    op = op_at(node)
    given = arguments(op, node)
    x = emission.value(given["x"])
    dims = _reduced(given, x)
    axes = [i for i, d in enumerate(x.order) if d in dims]
    if axes[-1] - axes[0] + 1 != len(axes):
        x = emission.in_order(node, x, (*(d for d in x.order if d not in dims), *dims))
        axes = list(range(x.rank - len(dims), x.rank))
    sizes = emission.sizes(x)
    parts = (sizes[: axes[0]], sizes[axes[0] : axes[-1] + 1], sizes[axes[-1] + 1 :])
    rows = emission.reshape(node, x, [emission.product(part) for part in parts], channels_last(3))
    if _is_coded(node):
        pooled = emission.step(node, steps.adaptive_max_pool(rows.id, output_size=[1]), rows.order)
    else:
        pooled = emission.step(node, make(rows.id), identity(2))
    one = emission.expr(1)
    if given["keepdim"]:
        return emission.reshape(node, pooled, [one if i in axes else s for i, s in enumerate(sizes)], x.order)
    return emission.reshape(node, pooled, [s for i, s in enumerate(sizes) if i not in axes], _left(x, dims))


@emits("interpolate")
def interpolate(emission: Emission, node: fx.Node) -> Physical:
    given, x = _image(emission, node)
    linear = given["mode"] in ("linear", "bilinear", "trilinear")
    size, factors, spatial = None, None, x.rank - 2
    if given["size"] is not None:
        wanted = given["size"]
        size = emission.exprs(wanted if isinstance(wanted, (tuple, list)) else [wanted] * spatial)
    else:
        factor = given["scale_factor"]
        factors = [float(f) for f in (factor if isinstance(factor, (tuple, list)) else [factor] * spatial)]
    corners = bool(given["align_corners"])
    if _is_coded(node):
        _, zero, _, _ = code_of(node.meta["value_type"].qparams)
        step = steps.interpolate(
            x.id, linear=linear, align_corners=corners, size=size, scale_factor=factors, zero_point=zero
        )
    else:
        step = steps.interpolate_f32(x.id, linear=linear, align_corners=corners, size=size, scale_factor=factors)
    return _with_rank_of_operand(emission, node, emission.step(node, step, x.order))
