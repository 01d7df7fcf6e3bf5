"""Shapes of a program's results, where the sizes of its inputs may be symbols."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx

from qfx.ir.module import plain
from qfx.ir.types import INTEGER_KINDS
from qfx.ops import qdq
from qfx.ops.calls import arguments
from qfx.ops.table import op_of

if TYPE_CHECKING:
    from qfx.lowering.compiled import CompiledSegment


def output_shapes(part: CompiledSegment, inputs: Sequence[Tensor]) -> Sequence[Sequence[Any]]:
    """The shapes of ``part``'s outputs for inputs without data.

    From what torch says of the float references of its nodes.
    """
    values: dict[fx.Node, Any] = {
        node: x.new_empty(x.shape, dtype=_dtype(node)) for node, x in zip(part.segment.inputs, inputs, strict=True)
    }
    for node in part.segment.nodes:
        values[node] = _evaluate(node, values, inputs[0])
    return [values[node].shape for node in part.segment.outputs]


def _evaluate(node: fx.Node, values: dict[fx.Node, Any], like: Tensor) -> Any:
    """What ``node`` gives, where every tensor of floats or codes is a float32 of the right shape."""

    def empty(shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        return like.new_empty(tuple(shape), dtype=dtype)

    def value(n: fx.Node) -> Any:
        return values[n] if n in values else empty(n.meta["shape"], _dtype(n))

    if node.target in (qdq.quantize, qdq.dequantize):
        return plain(node.args, value)[0]
    op, weights = op_of(node), node.meta.get("weights")
    args, kwargs = node.args, dict(node.kwargs)
    if op is not None and weights:
        args, kwargs = (), dict(arguments(op, node))
        kwargs.update((name, empty(weight.shape)) for name, weight in weights.items())
    assert callable(node.target)
    return node.target(*plain(args, value), **plain(kwargs, value))


def _dtype(node: fx.Node) -> torch.dtype:
    """The dtype of a value that stands for a node's."""
    dtype = node.meta.get("dtype")
    return dtype if dtype in INTEGER_KINDS else torch.float32
