"""Keys of attention less their mean, which changes no probability: what is left has more digits in 8 bits.

Zhang et al., "SageAttention: Accurate 8-Bit Attention for Plug-and-play Inference Acceleration", 2024, section 4.2.
"""

from __future__ import annotations

from typing import Any

from torch import fx

from qfx.ir.nodes import place
from qfx.ops.calls import arguments
from qfx.ops.table import TABLE, is_op, op_at
from qfx.passes.preparation import Preparation

_TAKEN = "its keys less their mean"


def smooth_keys(gm: fx.GraphModule, told: Preparation) -> fx.GraphModule:
    """Takes from the keys of every attention on integers their mean a channel, over all keys of a head."""
    smoothed: dict[fx.Node, fx.Node] = {}
    for node in list(gm.graph.nodes) if told.recovery.smooth_keys else ():
        if not is_op(node, "attention") or node.meta.get("qconfig") is None:
            continue
        given = arguments(op_at(node), node)
        key = given["key"]
        if key not in smoothed:
            smoothed[key] = _less_mean(gm.graph, key, node)
        node.args = tuple(smoothed[key] if name == "key" else given[name] for name in _OPERANDS[: len(node.args)])
        node.meta["recovery"] = (*node.meta.get("recovery", ()), _TAKEN)
    gm.graph.lint()
    gm.recompile()
    return gm


_OPERANDS = TABLE["attention"].tensors


def _less_mean(graph: fx.Graph, key: fx.Node, attention: fx.Node) -> fx.Node:
    with graph.inserting_before(attention):
        mean = graph.call_function(TABLE["mean"].fn, (key,), {"dims": (-2,), "keepdim": True})
        less = graph.call_function(TABLE["sub"].fn, (key, mean))
    for made in (mean, less):
        made.meta.update(place(attention))
        made.meta.update({name: key.meta[name] for name in ("dtype", "batch_dim") if name in key.meta})
    less.meta.update({name: key.meta[name] for name in ("shape", "extents") if name in key.meta})
    for name in ("shape", "extents"):
        known: Any = key.meta.get(name)
        if known is not None:
            mean.meta[name] = (*known[:-2], 1, known[-1])
    return less
