"""Ops that make integers of their float operands themselves, row by row at each call: attention, recurrent layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn

from qfx.ir.attributes import attribute
from qfx.ir.nodes import Decision, decision_of, path
from qfx.ir.types import QDType
from qfx.ops.calls import activations, arguments
from qfx.ops.extents import rank_of
from qfx.ops.table import Op, op_of
from qfx.passes.dynamic import STORED, decide_weights
from qfx.quantization.qconfig import QConfig
from qfx.runtime.limits import MOST_FEATURES

MOST_RANK = 4

_BY_ROWS = Decision("dynamic", "operands quantized a row at each call, probabilities a block of keys")
_LAYER = Decision("dynamic", "weights int8, input and hidden state quantized a row at each call")


def decide_by_rows(op: Op, node: fx.Node) -> Decision:
    """Whether a call computes on integers of its own."""
    qconfig = node.meta.get("qconfig")
    if qconfig is None:
        return Decision("float", f"its qconfig is None ({node.meta.get('qconfig_rule', 'no entry applies')})")
    keeps = qconfig.weight_only or (qconfig.is_dynamic and qconfig.weight().dtype is not QDType.qint8)
    if not op.matrices and keeps:
        return Decision("float", "its dynamic qconfig keeps activations in float")
    if node.meta.get("shape") is None:
        return Decision("float", "shapes are not known: prepare the model with example inputs")
    values = [node, *activations(op, node)]
    others = sorted({str(dtype) for n in values if (dtype := n.meta.get("dtype")) not in (None, torch.float32)})
    if others:
        return Decision("float", f"its values are {' and '.join(others)}, not float32")
    if any((rank_of(n) or MOST_RANK + 1) > MOST_RANK for n in values):
        return Decision("float", f"its values have more than {MOST_RANK} dims")
    return _decide_matrices(op, node, qconfig) if op.matrices else _BY_ROWS


def _decide_matrices(op: Op, node: fx.Node, qconfig: QConfig) -> Decision:
    """What becomes of an op whose rows are multiplied with parameters."""
    given = matrices(op, node)
    for name, matrix in given.items():
        if not isinstance(matrix, fx.Node) or matrix.op != "get_attr":
            return Decision("float", f"its {name} is computed by the model, not a parameter")
    root = node.graph.owning_module
    assert root is not None
    widest = max(attribute(root, path(matrix)).shape[1] for matrix in given.values())
    if widest > MOST_FEATURES:
        return Decision("float", f"it has {widest} features, and a recurrent layer takes {MOST_FEATURES} at most")
    own = qconfig.is_dynamic or qconfig.by_groups
    return decide_weights(qconfig, STORED, nn.RNNBase) if own else _LAYER


def matrices(op: Op, node: fx.Node) -> dict[str, Any]:
    """The matrices of a call by parameter name."""
    return {name: value for name, value in arguments(op, node).items() if name in op.matrices and value is not None}


def compute_by_rows(gm: fx.GraphModule) -> None:
    """Let the calls that were decided so compute on integers, or with float16 weights."""
    for node in gm.graph.nodes:
        op, kind = op_of(node), decision_of(node).kind
        if op is None or not op.by_rows or kind not in ("dynamic", "weight_only"):
            continue
        node.update_kwarg("integers" if kind == "dynamic" else "halves", True)
        if op.matrices and node.meta["qconfig"].is_dynamic:
            node.update_kwarg("per_row", node.meta["qconfig"].per_row)
