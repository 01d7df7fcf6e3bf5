"""Pooling, mean, sum, maximum and interpolation."""

from __future__ import annotations

import functools
import math
from typing import Any

from torch import fx

from qfx.lowering.emit import Emission, Order, Physical, channels_last, code_of, emits, identity
from qfx.ops.calls import arguments
from qfx.ops.table import op_of


def _image(emission: Emission, node: fx.Node, window: str | None = None) -> tuple[dict[str, Any], Physical]:
    """The arguments, and the operand as ``[N, *spatial, C]``: one image is a batch of one.

    Args:
        emission: The program.
        node: The op.
        window: The argument with one entry a spatial dim; None where the operand always has a batch.
    """
    op = op_of(node)
    assert op is not None
    given = arguments(op, node)
    value = emission.value(given["x"])
    if window is not None:
        value = emission.with_rank(node, value, len(given[window]) + 2)
    return given, emission.in_order(node, value, channels_last(value.rank))


def _is_coded(node: fx.Node) -> bool:
    kind: str = node.meta["value_type"].kind
    return kind == "code"


def _resampled(emission: Emission, node: fx.Node, x: Physical, ints: dict[str, Any], **others: Any) -> Physical:
    """The step on codes, of an average with what it needs to round, or its float form; with a batch dim if the op's
    operand has one."""
    op = op_of(node)
    assert op is not None
    if _is_coded(node):
        average = _average(node) if "avg" in op.name else {"ints": {}}
        average["ints"] |= ints
        made = emission.step(op.name, node, [x], x.order, **average, **others)
    else:
        made = emission.step(f"{op.name}_f32", node, [x], x.order, "f32", ints=ints, **others)
    source = node.args[0]
    assert isinstance(source, fx.Node)
    return emission.to_rank(node, made, emission.value(source).rank)


def _average(node: fx.Node) -> dict[str, Any]:
    """Zero points and the ratio of scales of an averaging step."""
    source = node.args[0]
    assert isinstance(source, fx.Node)
    s_x, z_x, _, _ = code_of(source.meta["value_type"].qparams)
    s_y, z_y, _, _ = code_of(node.meta["value_type"].qparams)
    return {"ints": {"x_zero_point": z_x, "zero_point": z_y}, "floats": {"ratio": s_x / s_y}}


@emits("max_pool")
def max_pool(emission: Emission, node: fx.Node) -> Physical:
    given, x = _image(emission, node, "kernel")
    ints = {
        "kernel": list(given["kernel"]),
        "stride": list(given["stride"]),
        "padding_lo": list(given["padding"]),
        "padding_hi": list(given["padding"]),
        "dilation": list(given["dilation"]),
        "ceil_mode": int(given["ceil_mode"]),
    }
    return _resampled(emission, node, x, ints)


@emits("avg_pool")
def avg_pool(emission: Emission, node: fx.Node) -> Physical:
    given, x = _image(emission, node, "kernel")
    ints = {
        "kernel": list(given["kernel"]),
        "stride": list(given["stride"]),
        "padding_lo": list(given["padding"]),
        "padding_hi": list(given["padding"]),
        "ceil_mode": int(given["ceil_mode"]),
        "count_include_pad": int(given["count_include_pad"]),
        "divisor": int(given["divisor_override"] or 0),
    }
    return _resampled(emission, node, x, ints)


@emits("adaptive_avg_pool", "adaptive_max_pool")
def adaptive_pool(emission: Emission, node: fx.Node) -> Physical:
    given, x = _image(emission, node, "output_size")
    return _resampled(emission, node, x, {"output_size": [0 if s is None else s for s in given["output_size"]]})


@emits("mean", "sum")
def mean(emission: Emission, node: fx.Node) -> Physical:
    """A sum is a mean in other units: annotation sees to it that its count is the same for all inputs."""
    op = op_of(node)
    assert op is not None
    if not _is_coded(node):
        return _reduction(emission, node, f"{op.name}_f32")
    given = arguments(op, node)
    x, attributes = emission.value(given["x"]), _average(node)
    dims = _reduced(given, x)
    if op.name == "sum":
        shape = given["x"].meta["shape"]
        attributes["floats"]["ratio"] *= float(math.prod(shape[d] for d in dims))
    attributes["ints"] |= {"axes": sorted(x.order.index(d) for d in dims), "keepdim": int(given["keepdim"])}
    order = x.order if given["keepdim"] else _left(x, dims)
    made = emission.step("mean", node, [x], order, **attributes)
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
    return _reduction(emission, node, "adaptive_max_pool" if _is_coded(node) else "amax_f32")


def _reduction(emission: Emission, node: fx.Node, step: str) -> Physical:
    """A step over rows ``[outer, reduced, inner]``."""
    op = op_of(node)
    assert op is not None
    given = arguments(op, node)
    x = emission.value(given["x"])
    dims = _reduced(given, x)
    axes = [i for i, d in enumerate(x.order) if d in dims]
    if axes[-1] - axes[0] + 1 != len(axes):
        x = emission.in_order(node, x, (*(d for d in x.order if d not in dims), *dims))
        axes = list(range(x.rank - len(dims), x.rank))
    sizes = [emission.builder.expr_dim(x.id, i) for i in range(x.rank)]
    parts = (sizes[: axes[0]], sizes[axes[0] : axes[-1] + 1], sizes[axes[-1] + 1 :])
    rows = emission.reshape(node, x, [_product(emission, part) for part in parts], channels_last(3))
    if step.endswith("_f32"):
        pooled = emission.step(step, node, [rows], identity(2), "f32")
    else:
        pooled = emission.step(step, node, [rows], rows.order, ints={"output_size": [1]})
    one = emission.expr(1)
    if given["keepdim"]:
        return emission.reshape(node, pooled, [one if i in axes else s for i, s in enumerate(sizes)], x.order)
    return emission.reshape(node, pooled, [s for i, s in enumerate(sizes) if i not in axes], _left(x, dims))


def _product(emission: Emission, sizes: list[int]) -> int:
    """The expression of a product, 1 of nothing."""
    return functools.reduce(lambda a, b: emission.builder.expr("mul", a, b), sizes or [emission.expr(1)])


@emits("interpolate")
def interpolate(emission: Emission, node: fx.Node) -> Physical:
    given, x = _image(emission, node)
    linear = given["mode"] in ("linear", "bilinear", "trilinear")
    ints = {"mode": int(linear), "align_corners": int(bool(given["align_corners"]))}
    if _is_coded(node):
        _, ints["zero_point"], _, _ = code_of(node.meta["value_type"].qparams)
    spatial = x.rank - 2
    if given["size"] is not None:
        size = given["size"] if isinstance(given["size"], (tuple, list)) else [given["size"]] * spatial
        return _resampled(emission, node, x, ints, exprs={"size": emission.exprs(size)})
    factor = given["scale_factor"]
    factors = list(factor) if isinstance(factor, (tuple, list)) else [factor] * spatial
    return _resampled(emission, node, x, ints, floats={"scale_factor": [float(f) for f in factors]})
