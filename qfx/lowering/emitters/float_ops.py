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


def _constant(emission: Emission, tensor: fx.Node | None) -> int | None:
    """The constant of a weight or bias."""
    return None if tensor is None else emission.constant(emission.tensor(tensor))


def _rows(emission: Emission, node: fx.Node) -> tuple[dict[str, Any], Physical, int]:
    """A norm's arguments, its operand with the dims that are normalized last, and how many they are."""
    given, x = _given(emission, node)
    count = len(given["normalized_shape"])
    if x.order[-count:] != tuple(range(x.rank - count, x.rank)):
        x = emission.in_order(node, x, identity(x.rank))
    return given, x, count


@emits("layer_norm", coded=False)
def layer_norm(emission: Emission, node: fx.Node) -> Physical:
    given, x, count = _rows(emission, node)
    weight, bias = _constant(emission, given["weight"]), _constant(emission, given["bias"])
    step = steps.layer_norm(x.id, ndim=count, eps=float(given["eps"]), weight=weight, bias=bias)
    return emission.step(node, step, x.order)


@emits("rotate", coded=False)
def rotate(emission: Emission, node: fx.Node) -> Physical:
    given, x = _given(emission, node)
    if x.order[-1] != x.rank - 1:
        x = emission.in_order(node, x, identity(x.rank))
    return emission.step(node, steps.rotate(x.id, block=given["block"]), x.order)


@emits("rms_norm", coded=False)
def rms_norm(emission: Emission, node: fx.Node) -> Physical:
    given, x, count = _rows(emission, node)
    weight = _constant(emission, given["weight"])
    return emission.step(node, steps.rms_norm(x.id, ndim=count, eps=float(given["eps"]), weight=weight), x.order)


@emits("group_norm", "instance_norm", coded=False)
def group_norm(emission: Emission, node: fx.Node) -> Physical:
    given, x = _given(emission, node)
    x = emission.in_order(node, x, channels_last(x.rank))
    weight, bias = _constant(emission, given["weight"]), _constant(emission, given["bias"])
    step = steps.group_norm(x.id, groups=given.get("groups", 0), eps=float(given["eps"]), weight=weight, bias=bias)
    return emission.step(node, step, x.order)


for _op in TABLE.values():
    if _op.pointwise is not None:
        emits(_op.name, whole=True)(pointwise)
