"""Rotary embedding and gated products, in float32."""

from __future__ import annotations

from torch import fx

from qfx.lowering.emit import Emission, Physical, emits, identity
from qfx.lowering.emitters.compute import numbers
from qfx.ops.calls import activations, arguments
from qfx.ops.gated.reference import gate_arguments
from qfx.ops.table import op_at
from qfx.runtime import steps


@emits("rotary", coded=False)
def rotary(emission: Emission, node: fx.Node) -> Physical:
    """Heads are turned where layers left them, whichever way batch, heads and rows lie."""
    given = arguments(op_at(node), node)
    x, *angles = (emission.value(value) for value in activations(op_at(node), node))
    if x.order[-1] != x.rank - 1:
        x = emission.in_order(node, x, identity(x.rank))
    cos, sin = (emission.in_order(node, each, identity(each.rank)) for each in angles)
    step = steps.rotary(
        x.id, cos.id, sin.id, length=given["length"], interleaved=given["interleaved"], perm=list(x.order)
    )
    return emission.step(node, step, x.order)


@emits("gated", coded=False)
def gated(emission: Emission, node: fx.Node) -> Physical:
    given = arguments(op_at(node), node)
    x, y = emission.value(given["x"]), emission.value(given["y"])
    y = emission.in_order(node, y, x.order)
    args = numbers(gate_arguments(given["function"], given["approximate"]))
    return emission.step(node, steps.gated_f32(x.id, y.id, function=given["function"], args=args), x.order)
