"""Ops that only move elements; permutes change the order and write nothing."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from qfx.lowering.emit import _END, Emission, Order, Physical, channels_last, code_of, emits, identity
from qfx.lowering.emitters.index import dtype_of
from qfx.ops import arithmetic
from qfx.ops.calls import arguments
from qfx.ops.table import op_at
from qfx.runtime import steps


def _given(emission: Emission, node: fx.Node) -> tuple[dict[str, Any], Physical]:
    op = op_at(node)
    given = arguments(op, node)
    return given, emission.value(given["x"])


@emits("permute", "transpose", whole=True)
def permute(emission: Emission, node: fx.Node) -> Physical:
    given, x = _given(emission, node)
    dims = [d % x.rank for d in given["dims"]] if "dims" in given else list(range(x.rank))
    if "dim0" in given:
        i, j = given["dim0"] % x.rank, given["dim1"] % x.rank
        dims[i], dims[j] = j, i
    return Physical(x.id, x.dtype, tuple(dims.index(d) for d in x.order))


@emits("reshape", whole=True)
def reshape(emission: Emission, node: fx.Node) -> Physical:
    given, x = _given(emission, node)
    x = emission.in_order(node, x, identity(x.rank))
    return emission.reshape(node, x, emission.exprs(given["shape"]), identity(len(given["shape"])))


@emits("dropout", whole=True)
def dropout(emission: Emission, node: fx.Node) -> Physical:
    return _given(emission, node)[1]


@emits("flatten", whole=True)
def flatten(emission: Emission, node: fx.Node) -> Physical:
    given, x = _given(emission, node)
    if x.rank == 0:
        return emission.reshape(node, x, [emission.expr(1)], (0,))
    start, end = given["start_dim"] % x.rank, given["end_dim"] % x.rank
    place, merged = x.order.index(start), tuple(range(start, end + 1))
    if x.order[place : place + len(merged)] != merged:  # they do not lie behind each other
        x = emission.in_order(node, x, identity(x.rank))
        place = start
    dims, left = emission.sizes(x), [d for d in x.order if d not in merged[1:]]
    shape = [*dims[:place], emission.product(dims[place : place + len(merged)]), *dims[place + len(merged) :]]
    return emission.reshape(node, x, shape, tuple(d - (len(merged) - 1) * (d > end) for d in left))


@emits("squeeze", whole=True)
def squeeze(emission: Emission, node: fx.Node) -> Physical:
    given, x = _given(emission, node)
    shape = _shape(node.args[0])
    wanted = range(x.rank) if given["dim"] is None else given["dim"]
    wanted = [wanted] if isinstance(wanted, int) else wanted
    gone = {d % x.rank for d in wanted if shape[d % x.rank] == 1}
    return emission.without(node, x, gone, {d % x.rank for d in wanted} - gone)


def _shape(node: object) -> tuple[int, ...]:
    assert isinstance(node, fx.Node)
    return tuple(node.meta["shape"])


@emits("unsqueeze", whole=True)
def unsqueeze(emission: Emission, node: fx.Node) -> Physical:
    given, x = _given(emission, node)
    return emission.with_one(node, x, given["dim"] % (x.rank + 1))


@emits("slice", whole=True)
def slice_(emission: Emission, node: fx.Node) -> Physical:
    given, x = _given(emission, node)
    start = 0 if given["start"] is None else given["start"]
    end = _END if given["end"] is None else given["end"]
    return _sliced(emission, node, x, given["dim"] % x.rank, start, end, given["step"])


def _sliced(emission: Emission, node: fx.Node, x: Physical, dim: int, start: Any, end: Any, step: int) -> Physical:
    start, end = emission.expr(start), emission.expr(end)
    made = steps.slice(x.id, axis=x.order.index(dim), step=step, start=start, end=end)
    return emission.step(node, made, x.order, x.dtype)


@emits("select", whole=True)
def select(emission: Emission, node: fx.Node) -> Physical:
    given, x = _given(emission, node)
    dim, index = given["dim"] % x.rank, given["index"]
    end: Any = index + 1 if isinstance(index, int) and index != -1 else _END
    if isinstance(index, fx.Node):
        start = emission.expr(index)
        behind = emission.builder.expr("add", start, emission.expr(1))
        step = steps.slice(x.id, axis=x.order.index(dim), step=1, start=start, end=behind)
        part = emission.step(node, step, x.order, x.dtype)
    else:
        part = _sliced(emission, node, x, dim, index, end, 1)
    return emission.without(node, part, {dim})


@emits("expand", whole=True)
def expand(emission: Emission, node: fx.Node) -> Physical:
    given, x = _given(emission, node)
    x = emission.in_order(node, x, identity(x.rank))
    shape = given["shape"]
    more = len(shape) - x.rank
    if more:
        x = emission.reshape(node, x, [emission.expr(1)] * more + emission.sizes(x), identity(len(shape)))
    return emission.step(node, steps.expand(x.id, shape=emission.exprs(shape)), identity(len(shape)), x.dtype)


_OF_WINDOWS = ("size", "stride", "dilation")


@emits("windows", whole=True)
def windows(emission: Emission, node: fx.Node) -> Physical:
    """In memory a window's dims are behind those that it slides along: rows of channels last stay together."""
    given, x = _given(emission, node)
    x = emission.in_order(node, x, identity(x.rank))
    dims = [dim % x.rank for dim in given["dims"]]
    ascending = sorted(range(len(dims)), key=dims.__getitem__)
    axes, size, stride, dilation = ([of[i] for i in ascending] for of in (dims, *(given[n] for n in _OF_WINDOWS)))
    made = steps.windows(x.id, axes=axes, size=size, stride=stride, dilation=dilation)
    order = (*range(axes[-1] + 1), *(x.rank + i for i in ascending), *range(axes[-1] + 1, x.rank))
    return emission.step(node, made, order, x.dtype)


@emits("cat", "stack", whole=True)
def cat(emission: Emission, node: fx.Node) -> Physical:
    op = op_at(node)
    given = arguments(op, node)
    coded = node.meta["value_type"].kind == "code"
    values = [emission.value(n) for n in given["tensors"]]
    values = values if coded else [emission.cast(node, value, dtype_of(node)) for value in values]
    if op.name == "stack":
        dim = given["dim"] % (values[0].rank + 1)
        values = [emission.with_one(node, v, dim) for v in values]
    else:
        dim = given["dim"] % values[0].rank
    order = values[0].order
    values = [emission.in_order(node, v, order) for v in values]
    return emission.step(node, steps.concat([v.id for v in values], axis=order.index(dim)), order, values[0].dtype)


_PAD_MODES = {"constant": 0, "reflect": 1, "replicate": 2, "circular": 3}


@emits("pad")
def pad(emission: Emission, node: fx.Node) -> Physical:
    given, x = _given(emission, node)
    amounts = given["pad"]
    low, high = [0] * x.rank, [0] * x.rank
    for i in range(len(amounts) // 2):
        low[x.rank - 1 - i], high[x.rank - 1 - i] = amounts[2 * i], amounts[2 * i + 1]
    value = float(given["value"] or 0.0)
    if x.dtype == "u8":
        scale, zero, lowest, highest = code_of(node.meta["value_type"].qparams)
        step = torch.tensor(scale, dtype=torch.float32)
        value = float(arithmetic.quantize(torch.tensor(value), step, torch.tensor(zero), lowest, highest))
    lo, hi = [low[d] for d in x.order], [high[d] for d in x.order]
    made = steps.pad(x.id, lo=lo, hi=hi, mode=_PAD_MODES[given["mode"]], fill=value)
    return emission.step(node, made, x.order, x.dtype)


@emits("pixel_shuffle")
def pixel_shuffle(emission: Emission, node: fx.Node) -> Physical:
    given, x = _given(emission, node)
    r, x = given["factor"], emission.in_order(node, x, _pixels(x.rank))
    *images, h, w, c = emission.sizes(x)
    factor, multiply = emission.expr(r), emission.builder.expr
    parts = multiply("floordiv", c, emission.expr(r * r))
    split = emission.reshape(node, x, [emission.product(images), h, w, parts, factor, factor], identity(6))
    moved = emission.in_order(node, split, (0, 1, 4, 2, 5, 3))
    shape = [*images, multiply("mul", h, factor), multiply("mul", w, factor), parts]
    return emission.reshape(node, moved, shape, x.order)


@emits("pixel_unshuffle")
def pixel_unshuffle(emission: Emission, node: fx.Node) -> Physical:
    given, x = _given(emission, node)
    r, x = given["factor"], emission.in_order(node, x, _pixels(x.rank))
    *images, h, w, c = emission.sizes(x)
    factor, divide = emission.expr(r), emission.builder.expr
    h, w = divide("floordiv", h, factor), divide("floordiv", w, factor)
    split = emission.reshape(node, x, [emission.product(images), h, factor, w, factor, c], identity(6))
    moved = emission.in_order(node, split, (0, 1, 3, 5, 2, 4))
    return emission.reshape(node, moved, [*images, h, w, divide("mul", c, emission.expr(r * r))], x.order)


def _pixels(rank: int) -> Order:
    """The order of images ``[..., C, H, W]`` with channels last."""
    return (*range(rank - 3), rank - 2, rank - 1, rank - 3)


@emits("channel_shuffle")
def channel_shuffle(emission: Emission, node: fx.Node) -> Physical:
    given, x = _given(emission, node)
    x = emission.in_order(node, x, channels_last(x.rank))
    *rest, c = emission.sizes(x)
    groups = emission.expr(given["groups"])
    width = emission.builder.expr("floordiv", c, groups)
    rank = x.rank
    split = emission.reshape(node, x, [*rest, groups, width], identity(rank + 1))
    moved = emission.in_order(node, split, (*range(rank - 1), rank, rank - 1))
    return emission.reshape(node, moved, [*rest, c], channels_last(rank))
