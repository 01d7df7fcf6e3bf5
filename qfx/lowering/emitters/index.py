"""Ops on integers."""

from __future__ import annotations

import torch
from torch import fx

from qfx.lowering.emit import Emission, Physical, emits
from qfx.ops.calls import arguments
from qfx.ops.table import op_at
from qfx.runtime import steps


@emits("embedding", coded=False)
def embedding(emission: Emission, node: fx.Node) -> Physical:
    given = arguments(op_at(node), node)
    indices = emission.integers(given["indices"])
    order = (*indices.order, indices.rank)
    if given["weight"] is not None:
        table = emission.constant(emission.tensor(given["weight"]))
        return emission.step(node, steps.embedding(indices.id, table=table), order)
    array = node.meta["weights"]["weight"].array
    table, scale = emission.constant(array.values), emission.constant(array.scale)
    moved = bool((array.zero_point != 0).any())
    zero_point = emission.constant(array.zero_point.to(torch.int32)) if moved else None
    return emission.step(node, steps.embedding(indices.id, table=table, scale=scale, zero_point=zero_point), order)


@emits("to_float32", coded=False)
def to_float32(emission: Emission, node: fx.Node) -> Physical:
    x = emission.value(arguments(op_at(node), node)["x"])
    return x if x.dtype == "f32" else emission.step(node, steps.to_f32(x.id), x.order)
