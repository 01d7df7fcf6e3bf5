"""Ops on integers and truth values, and look-ups."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import fx

from qfx.ir.nodes import operand, path
from qfx.onnx.builder import TYPES, as_proto
from qfx.onnx.graph import Call
from qfx.onnx.stored import is_stored
from qfx.onnx.table import form
from qfx.ops import qdq


@form("embedding")
def embedding(call: Call) -> str:
    """Gather of the weight's rows; of integers those rows alone become floats."""
    weight, indices = call.given["weight"], call.value("indices")
    if not (is_stored(weight) and weight.target is qdq.dequantize):
        return call.emit("Gather", call.graph.value(weight), indices, axis=0)
    return _dequantized_rows(call, weight, indices)


def _dequantized_rows(call: Call, weight: fx.Node, indices: str) -> str:
    graph, axis = call.graph, weight.kwargs.get("axis")
    codes, scale, zero = (path(operand(weight, index)) for index in range(3))
    storage = graph.tensor(operand(weight)).dtype
    rows = call.emit("Gather", graph.attribute(codes), indices, axis=0)
    if axis is None:
        return call.emit("DequantizeLinear", rows, graph.attribute(scale), graph.attribute(zero, storage))
    if axis != 0:
        return call.emit("DequantizeLinear", rows, graph.attribute(scale), graph.attribute(zero, storage), axis=-1)
    scales, zeros = (
        call.emit("Unsqueeze", call.emit("Gather", name, indices, axis=0), call.whole([-1]))
        for name in (graph.attribute(scale), graph.attribute(zero, torch.float32))
    )
    return call.emit("Mul", call.emit("Sub", call.emit("Cast", rows, to=TYPES[torch.float32]), zeros), scales)


@form("embedding_bag")
def embedding_bag(call: Call) -> str:
    """Rows, times their factors, and a reduction; a row that does not count is what changes no result."""
    largest, indices = call.given["mode"] == "max", call.value("indices")
    rows, behind = embedding(call), call.whole([-1])
    if call.given["per_sample_weights"] is not None:
        rows = call.emit("Mul", rows, call.emit("Unsqueeze", call.value("per_sample_weights"), behind))
    counts = call.emit("Unsqueeze", _counts(call, indices), behind)
    zero, one = (call.constant(number, torch.float32) for number in (0.0, 1.0))
    if call.given["padding_idx"] is not None:
        least = call.constant(-math.inf, torch.float32) if largest else zero
        rows = call.emit("Where", call.emit("Cast", counts, to=TYPES[torch.bool]), rows, least)
    y = _over_bags(call, rows, largest=largest)
    if call.given["mode"] == "sum":
        return y
    counted = _over_bags(call, counts, largest=False)
    if largest:
        return call.emit("Where", call.emit("Equal", counted, zero), zero, y)
    return call.emit("Div", y, call.emit("Max", counted, one))


def _counts(call: Call, indices: str) -> str:
    """1 where an index counts, else 0, float32."""
    padding, one = call.given["padding_idx"], torch.ones(1)
    if padding is None:
        value = as_proto(one, "")
        return call.emit("ConstantOfShape", call.emit("Shape", indices), value=value)
    row = padding % call.given["weight"].meta["shape"][0]
    same = call.emit("Equal", indices, call.constant(row, call.given["indices"].meta["dtype"]))
    return call.emit("Cast", call.emit("Not", same), to=TYPES[torch.float32])


def _over_bags(call: Call, rows: str, *, largest: bool) -> str:
    """Sum or maximum of what each bag takes: over dim 1; with offsets ScatterElements."""
    offsets = call.given["offsets"]
    if offsets is None:
        return call.emit("ReduceMax" if largest else "ReduceSum", rows, call.whole([1]), keepdims=0)
    count, width = call.length(call.graph.value(offsets), 0), call.length(rows, 1)
    nothing = call.emit(
        "Expand", call.constant(-math.inf if largest else 0.0, torch.float32), call.numbers([count, width])
    )
    bags = call.emit("Expand", call.emit("Unsqueeze", _bags(call), call.whole([-1])), call.emit("Shape", rows))
    y = call.emit("ScatterElements", nothing, bags, rows, axis=0, reduction="max" if largest else "add")
    last = call.given["include_last_offset"]
    return call.emit("Slice", y, call.whole([0]), call.whole([-1]), call.whole([0])) if last else y


def _bags(call: Call) -> str:
    """The bag of each index, int64: how many offsets lie in front of it or on it, less 1."""
    offsets = call.as_dtype(call.given["offsets"], torch.int64)
    count = call.length(call.value("indices"), 0)
    one = call.whole([1])
    ones, none = (
        call.emit("Expand", call.whole([number]), shape)
        for number, shape in ((1, call.emit("Shape", offsets)), (0, call.emit("Add", count, one)))
    )
    begins = call.emit("ScatterElements", none, offsets, ones, axis=0, reduction="add")
    bags = call.emit("Sub", call.emit("CumSum", begins, call.whole(0)), one)
    return call.emit("Slice", bags, call.whole([0]), count)


@form("cast")
def cast(call: Call) -> str:
    """Cast."""
    return call.emit("Cast", call.value("x"), to=TYPES[call.given["dtype"]])


def _promoted(call: Call, x: Any, y: Any) -> tuple[str, str]:
    """Two operands, tensors or numbers, as torch promotes them."""
    dtype = torch.result_type(*(_like(one) for one in (x, y)))
    return call.as_dtype(x, dtype), call.as_dtype(y, dtype)


def _like(value: Any) -> Any:
    """What promotes as an operand does."""
    if not isinstance(value, fx.Node):
        return value
    return torch.empty((1,) * min(len(value.meta["shape"]), 1), dtype=value.meta["dtype"])


def _comparison(call: Call, kind: str) -> str:
    x, y = call.given["x"], call.given["y"]
    return call.emit(kind, *_promoted(call, x, y))


def _ordering(call: Call, kind: str) -> str:
    """A comparison that ONNX has of numbers only."""
    x, y = call.given["x"], call.given["y"]
    dtype = torch.result_type(_like(x), _like(y))
    dtype = torch.int32 if dtype is torch.bool else dtype
    return call.emit(kind, call.as_dtype(x, dtype), call.as_dtype(y, dtype))


@form("eq")
def eq(call: Call) -> str:
    """Equal."""
    return _comparison(call, "Equal")


@form("ne")
def ne(call: Call) -> str:
    """Not of Equal."""
    return call.emit("Not", _comparison(call, "Equal"))


@form("lt")
def lt(call: Call) -> str:
    """Less."""
    return _ordering(call, "Less")


@form("le")
def le(call: Call) -> str:
    """LessOrEqual."""
    return _ordering(call, "LessOrEqual")


@form("gt")
def gt(call: Call) -> str:
    """Greater."""
    return _ordering(call, "Greater")


@form("ge")
def ge(call: Call) -> str:
    """GreaterOrEqual."""
    return _ordering(call, "GreaterOrEqual")


def _truth(call: Call, name: str) -> str:
    return call.as_dtype(call.given[name], torch.bool)


@form("logical_and")
def logical_and(call: Call) -> str:
    """And."""
    return call.emit("And", _truth(call, "x"), _truth(call, "y"))


@form("logical_or")
def logical_or(call: Call) -> str:
    """Or."""
    return call.emit("Or", _truth(call, "x"), _truth(call, "y"))


@form("logical_xor")
def logical_xor(call: Call) -> str:
    """Xor."""
    return call.emit("Xor", _truth(call, "x"), _truth(call, "y"))


@form("logical_not")
def logical_not(call: Call) -> str:
    """Not."""
    return call.emit("Not", _truth(call, "x"))


@form("minimum")
def minimum(call: Call) -> str:
    """Min."""
    return call.emit("Min", call.cast("x"), call.cast("y"))


@form("maximum")
def maximum(call: Call) -> str:
    """Max."""
    return call.emit("Max", call.cast("x"), call.cast("y"))


@form("where")
def where(call: Call) -> str:
    """Where; of truth values, which not every runtime has it of, And and Or."""
    condition, x, y = _truth(call, "condition"), call.cast("x"), call.cast("y")
    if call.dtype is not torch.bool:
        return call.emit("Where", condition, x, y)
    return call.emit("Or", call.emit("And", condition, x), call.emit("And", call.emit("Not", condition), y))


@form("arange")
def arange(call: Call) -> str:
    """Range."""
    return call.emit("Range", *(call.scalar(call.given[name]) for name in ("start", "end", "step")))


@form("full")
def full(call: Call) -> str:
    """A constant, expanded."""
    value = call.constant(call.given["value"], call.given["dtype"])
    shape = list(call.given["shape"])
    return call.emit("Expand", value, call.numbers(shape)) if shape else value


@form("cumsum")
def cumsum(call: Call) -> str:
    """CumSum."""
    return call.emit("CumSum", call.cast("x"), call.whole(call.given["dim"]))


@form("argmax")
def argmax(call: Call) -> str:
    """ArgMax."""
    return call.emit("ArgMax", call.value("x"), axis=call.given["dim"], keepdims=int(call.given["keepdim"]))


@form("gather")
def gather(call: Call) -> str:
    """GatherElements."""
    return call.emit("GatherElements", call.value("x"), call.value("index"), axis=call.given["dim"])


@form("take")
def take(call: Call) -> str:
    """Gather by one index; GatherND by several, broadcast."""
    indices = [call.as_dtype(index, torch.int64) for index in call.given["indices"]]
    if len(indices) == 1:
        return call.emit("Gather", call.value("x"), indices[0], axis=0)
    shape = call.emit("Shape", indices[0])
    for other in indices[1:]:  # the shape that all of them broadcast to
        ones = call.emit("Expand", call.emit("Expand", call.whole(1), shape), call.emit("Shape", other))
        shape = call.emit("Shape", ones)
    last = call.whole([-1])
    parts = [call.emit("Unsqueeze", call.emit("Expand", index, shape), last) for index in indices]
    return call.emit("GatherND", call.value("x"), call.emit("Concat", *parts, axis=-1))
