"""Ops that make integers of their float operands themselves, row by row at each call: attention."""

from __future__ import annotations

import torch
from torch import fx

from qfx.ir.nodes import Decision, decision_of
from qfx.ir.types import QDType
from qfx.ops.calls import activations
from qfx.ops.extents import rank_of
from qfx.ops.table import Op, op_of

MOST_RANK = 4

_BY_ROWS = Decision("dynamic", "operands quantized a row at each call, probabilities a block of keys")


def decide_by_rows(op: Op, node: fx.Node) -> Decision:
    """Whether a call computes on integers of its own."""
    qconfig = node.meta.get("qconfig")
    if qconfig is None:
        return Decision("float", f"its qconfig is None ({node.meta.get('qconfig_rule', 'no entry applies')})")
    if qconfig.is_dynamic and qconfig.weight().dtype is not QDType.qint8:
        return Decision("float", "its dynamic qconfig keeps activations in float")
    if node.meta.get("shape") is None:
        return Decision("float", "shapes are not known: prepare the model with example inputs")
    values = [node, *activations(op, node)]
    others = sorted({str(dtype) for n in values if (dtype := n.meta.get("dtype")) not in (None, torch.float32)})
    if others:
        return Decision("float", f"its values are {' and '.join(others)}, not float32")
    if any((rank_of(n) or MOST_RANK + 1) > MOST_RANK for n in values):
        return Decision("float", f"its values have more than {MOST_RANK} dims")
    return _BY_ROWS


def compute_by_rows(gm: fx.GraphModule) -> None:
    """Let the calls that were decided so compute on integers."""
    for node in gm.graph.nodes:
        op = op_of(node)
        if op is not None and op.by_rows and decision_of(node).kind == "dynamic":
            node.update_kwarg("integers", True)
