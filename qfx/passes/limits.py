"""What the runtime does not take: long sums and many dims. Such ops stay float."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from qfx.ir.attributes import attribute
from qfx.ir.nodes import path
from qfx.ops.calls import activations, arguments
from qfx.ops.extents import extent_of, rank_of
from qfx.ops.table import Op
from qfx.runtime.limits import LONGEST_PRODUCT, MOST_DIMS

_SUM = 2**31 - 1


def beyond_shapes(op: Op, node: fx.Node) -> str | None:
    """Why the runtime can't compute a call on integers of these shapes, or None.

    Lengths that nothing fixes count as they are in ``meta["shape"]``.
    """
    dims = dims_in_program(op, node)
    if dims > MOST_DIMS:
        return f"it needs values of {dims} dimensions, and programs have {MOST_DIMS} at most"
    if op.sums == "operands" and (_length(node.args[0]) or 0) > LONGEST_PRODUCT:
        return f"it adds more than {LONGEST_PRODUCT} products, whose sum could leave 32 bits"
    return None


def beyond_sums(op: Op, node: fx.Node) -> str | None:
    """Why 32 bits do not hold the sums of a layer of a Normal graph, or None."""
    if op.weights and _can_overflow(op, node):
        return "it adds so many products that their sum could leave 32 bits"
    return None


def dims_in_program(op: Op, node: fx.Node) -> int:
    """The most dims that a value has while a program computes ``node``, as far as they are known."""
    known = [rank for value in (node, *activations(op, node)) if (rank := rank_of(value)) is not None]
    return max(known, default=0) + op.splits_a_dim


def _length(value: Any) -> int | None:
    """The length of the last dim: what constants say, else what was seen."""
    known = extent_of(value, -1)
    seen = value.meta.get("shape") if isinstance(value, fx.Node) else None
    return seen[-1] if known is None and seen else known


def _can_overflow(op: Op, node: fx.Node) -> bool:
    """Whether a sum of products with the weights, as an observer that covers them rounds them, could leave 32 bits."""
    weight: Any = arguments(op, node)[op.weights[0]]
    root, qconfig = node.graph.owning_module, node.meta["qconfig"]
    if not isinstance(weight, fx.Node) or weight.op != "get_attr" or root is None or qconfig.is_dynamic:
        return False
    values: Tensor = attribute(root, path(weight)).detach()
    if values.dim() < 2 or values[:1].numel() <= LONGEST_PRODUCT:
        return False
    scheme = getattr(qconfig.weight(), "qscheme", None)
    steps = 127.5 if getattr(scheme, "symmetric", False) else 255.0
    rows = values.double().abs().flatten(1)
    widest = rows.amax(1) if getattr(scheme, "per_channel", True) else rows.amax()
    integers = (rows / torch.as_tensor(widest).clamp(min=1e-38).reshape(-1, 1) * steps).sum(1) + rows.shape[1]
    return bool(integers.max() * 255 > _SUM)
