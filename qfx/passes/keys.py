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


def _less_mean(graph: fx.Graph, keys: fx.Node, attention: fx.Node) -> fx.Node:
    with graph.inserting_before(attention):
        mean = graph.call_function(TABLE["mean"].fn, (keys,), {"dims": (-2,), "keepdim": True})
        less = graph.call_function(TABLE["sub"].fn, (keys, mean))
    known = {key: keys.meta[key] for key in ("dtype", "batch_dim", "shape", "extents") if key in keys.meta}
    less.meta.update(place(attention) | known)
    sizes = [key for key in ("shape", "extents") if key in known]
    of_one: dict[str, Any] = {key: (*known[key][:-2], 1, known[key][-1]) for key in sizes}
    mean.meta.update(place(attention) | known | of_one)
    return less
