"""What runs in float32 between int8 values; and a table for every pointwise op."""

from __future__ import annotations

from typing import Any

from torch import fx

from qfx.lowering.emit import Emission, Physical, channels_last, emits, identity
from qfx.lowering.emitters.compute import pointwise
from qfx.ops.calls import arguments
from qfx.ops.table import TABLE, op_at
from qfx.runtime import steps


def _given(emission: Emission, node: fx.Node) -> tuple[dict[str, Any], Physical]:
    op = op_at(node)
    given = arguments(op, node)
    return given, emission.value(given["x"])


@emits("softmax", "log_softmax", coded=False)
def softmax(emission: Emission, node: fx.Node) -> Physical:
    op = op_at(node)
    given, x = _given(emission, node)
    make = steps.softmax if op.name == "softmax" else steps.log_softmax
    return emission.step(node, make(x.id, axis=x.order.index(given["dim"] % x.rank)), x.order)


@emits("causal_softmax", coded=False)
def causal_softmax(emission: Emission, node: fx.Node) -> Physical:
    _, x = _given(emission, node)
    x = emission.in_order(node, x, identity(x.rank))
    return emission.step(node, steps.causal_softmax(x.id), x.order)


def _affine(emission: Emission, given: dict[str, Any]) -> tuple[int | None, int | None]:
    """The constants of weight and bias."""
    weight, bias = (
        None if given[k] is None else emission.constant(emission.tensor(given[k])) for k in ("weight", "bias")
    )
    return weight, bias


@emits("layer_norm", coded=False)
def layer_norm(emission: Emission, node: fx.Node) -> Physical:
    given, x = _given(emission, node)
    count = len(given["normalized_shape"])
    if x.order[-count:] != tuple(range(x.rank - count, x.rank)):
        x = emission.in_order(node, x, identity(x.rank))
    weight, bias = _affine(emission, given)
    step = steps.layer_norm(x.id, ndim=count, eps=float(given["eps"]), weight=weight, bias=bias)
    return emission.step(node, step, x.order)


@emits("rotate", coded=False)
def rotate(emission: Emission, node: fx.Node) -> Physical:
    given, x = _given(emission, node)
    if x.order[-1] != x.rank - 1:
        x = emission.in_order(node, x, identity(x.rank))
    return emission.step(node, steps.rotate(x.id, block=given["block"]), x.order)


@emits("group_norm", "instance_norm", coded=False)
def group_norm(emission: Emission, node: fx.Node) -> Physical:
    given, x = _given(emission, node)
    x = emission.in_order(node, x, channels_last(x.rank))
    weight, bias = _affine(emission, given)
    step = steps.group_norm(x.id, groups=given.get("groups", 0), eps=float(given["eps"]), weight=weight, bias=bias)
    return emission.step(node, step, x.order)


for _op in TABLE.values():
    if _op.pointwise is not None:
        emits(_op.name)(pointwise)
