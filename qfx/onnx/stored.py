"""Tensors of the model that decode to weights and biases: integers as initializers, and what makes floats of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import torch
from torch import fx

from qfx.ir.nodes import keyword, operand, path
from qfx.onnx.builder import TYPES
from qfx.ops import qdq

if TYPE_CHECKING:
    from qfx.onnx.graph import Call


def is_stored(node: fx.Node) -> bool:
    """Whether the node decodes a tensor of the model."""
    return node.target in (qdq.dequantize, qdq.decode_weight) and operand(node).op == "get_attr"


def stored_dtype(node: fx.Node) -> torch.dtype:
    """Of a value in the file: an input that arrives quantized is its integers."""
    arrives = node.meta.get("arrives_as")
    found: torch.dtype = node.meta["dtype"] if arrives is None else arrives.dtype.storage
    return found


def decoded(call: Call, *, transposed: bool = False) -> str:
    """The value of a node that decodes a tensor of the model; of a matrix with its dims exchanged, if that is asked.

    ``transposed`` is for integers behind a dequantize only.
    """
    return _blocks(call) if call.node.target is qdq.decode_weight else _dequantized(call, transposed)


def qparams(call: Call, storage: torch.dtype) -> tuple[str, str]:
    """Scale and zero point of a quantize or dequantize. Integers of 32 bits have no zero point: it is 0."""
    scale, zero = (path(operand(call.node, index)) for index in (1, 2))
    point = "" if storage is torch.int32 else call.graph.attribute(zero, storage)
    return call.graph.attribute(scale), point


def _dequantized(call: Call, transposed: bool) -> str:
    """Integers behind DequantizeLinear."""
    source, axis = operand(call.node), keyword(call.node, "axis")
    codes = call.graph.attribute(path(source), transposed=transposed)
    if axis is not None and transposed:
        axis = 1 - axis
    return call.emit("DequantizeLinear", codes, *qparams(call, call.graph.tensor(source).dtype), axis=axis)


def _blocks(call: Call) -> str:
    """A weight of 16, 8 or 4 bits: Cast, or DequantizeLinear with a scale for each block of a row."""
    source, *given = (a for a in call.node.args if isinstance(a, fx.Node))
    if not given:
        return call.emit("Cast", call.graph.attribute(path(source)), to=TYPES[torch.float32])
    packed, scale = keyword(call.node, "shape"), call.graph.tensor(given[0])
    columns = call.graph.tensor(source).shape[1] if packed is None else packed[1]
    codes = _codes(call, source, packed)
    zero = [_codes(call, node, None if packed is None else tuple(scale.shape)) for node in given[1:]]
    scales = call.graph.attribute(path(given[0]), torch.float32)
    return call.emit("DequantizeLinear", codes, scales, *zero, axis=1, block_size=columns // scale.shape[1])


def _codes(call: Call, source: fx.Node, packed: tuple[int, ...] | None) -> str:
    """Integers as the model stores them: those of 4 bits lie in bytes as ONNX wants them."""
    if packed is None:
        return call.graph.attribute(path(source))
    data = call.graph.tensor(source).numpy().tobytes()
    proto = onnx.TensorProto(data_type=onnx.TensorProto.INT4, dims=list(packed), raw_data=data)
    return call.graph.builder.initializer(path(source), proto)
