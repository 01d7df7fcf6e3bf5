"""Float glue: what runs in float32 between int8 values; and a table for every pointwise op."""

from __future__ import annotations

from typing import Any

from torch import fx

from qfx.lowering.emit import Emission, Physical, channels_last, emits, identity
from qfx.lowering.emitters.compute import pointwise
from qfx.ops.calls import arguments
from qfx.ops.table import TABLE, op_of


def _given(emission: Emission, node: fx.Node) -> tuple[dict[str, Any], Physical]:
    op = op_of(node)
    assert op is not None
    given = arguments(op, node)
    return given, emission.value(given["x"])


@emits("softmax", "log_softmax", coded=False)
def softmax(emission: Emission, node: fx.Node) -> Physical:
    op = op_of(node)
    assert op is not None
    given, x = _given(emission, node)
    return emission.step(op.name, node, [x], x.order, "f32", ints={"axis": x.order.index(given["dim"] % x.rank)})


@emits("causal_softmax", coded=False)
def causal_softmax(emission: Emission, node: fx.Node) -> Physical:
    _, x = _given(emission, node)
    x = emission.in_order(node, x, identity(x.rank))
    return emission.step("causal_softmax", node, [x], x.order, "f32")


def _affine(emission: Emission, given: dict[str, Any]) -> dict[str, int]:
    return {k: emission.constant(emission.tensor(given[k])) for k in ("weight", "bias") if given[k] is not None}


@emits("layer_norm", coded=False)
def layer_norm(emission: Emission, node: fx.Node) -> Physical:
    given, x = _given(emission, node)
    count = len(given["normalized_shape"])
    if x.order[-count:] != tuple(range(x.rank - count, x.rank)):
        x = emission.in_order(node, x, identity(x.rank))
    return emission.step(
        "layer_norm", node, [x], x.order, "f32",
        ints={"ndim": count}, floats={"eps": float(given["eps"])}, constants=_affine(emission, given),
    )  # fmt: skip


@emits("group_norm", "instance_norm", coded=False)
def group_norm(emission: Emission, node: fx.Node) -> Physical:
    given, x = _given(emission, node)
    x = emission.in_order(node, x, channels_last(x.rank))
    return emission.step(
        "group_norm", node, [x], x.order, "f32",
        ints={"groups": given.get("groups", 0)}, floats={"eps": float(given["eps"])},
        constants=_affine(emission, given),
    )  # fmt: skip


for _op in TABLE.values():
    if _op.pointwise is not None:
        emits(_op.name)(pointwise)
