"""Quantize, dequantize, and what rounds rows at each call."""

from __future__ import annotations

import torch

from qfx.ir.nodes import operand
from qfx.ir.types import QDType
from qfx.onnx.graph import Call
from qfx.onnx.stored import decoded, qparams, stored_dtype
from qfx.onnx.table import form

form("decode_weight")(decoded)


@form("quantize")
def quantize(call: Call) -> str:
    """QuantizeLinear saturates to its type; a range within that is a Clip of the integers."""
    kind = QDType.parse(call.given["dtype"])
    if kind is QDType.qint32:
        raise call.refuse("ONNX rounds to integers of 8 bits.", "Give it a qconfig whose activations have 8 bits.")
    low, high = (call.given[name] for name in ("quant_min", "quant_max"))
    low, high = kind.qmin if low is None else low, kind.qmax if high is None else high
    narrow = (low, high) != (kind.qmin, kind.qmax)
    codes = call.emit(
        "QuantizeLinear", call.value("x"), *qparams(call, kind.storage), axis=call.given["axis"],
        name=f"{call.node.name}_unclipped" if narrow else "",
    )  # fmt: skip
    return call.emit("Clip", codes, *(call.constant(n, kind.storage) for n in (low, high))) if narrow else codes


@form("dequantize")
def dequantize(call: Call) -> str:
    """DequantizeLinear."""
    storage = stored_dtype(operand(call.node))
    return call.emit("DequantizeLinear", call.value("q"), *qparams(call, storage), axis=call.given["axis"])


@form("requantize_dynamic")
def requantize_dynamic(call: Call) -> str:
    """Rounded to the integers of its own range: DynamicQuantizeLinear, or for rows what that computes, spelled out."""
    x = call.value("x")
    if call.given["group_size"] is not None:
        return _grouped(call, x, call.given["group_size"])
    if not call.given["per_row"] and not call.given["reduce_range"]:
        return _dynamic(call, x)
    axes, most = (call.whole([-1]) if call.given["per_row"] else ""), 127.0 if call.given["reduce_range"] else 255.0
    zero, top = call.constant(0.0, torch.float32), call.constant(most, torch.float32)
    low = call.emit("Min", call.emit("ReduceMin", x, axes, keepdims=1), zero)
    high = call.emit("Max", call.emit("ReduceMax", x, axes, keepdims=1), zero)
    ratio = call.emit("Div", call.emit("Sub", high, low), top)
    scale = call.emit("Where", call.emit("Equal", ratio, zero), call.constant(1.0, torch.float32), ratio)
    point = call.emit("Clip", call.emit("Round", call.emit("Neg", call.emit("Div", low, scale))), zero, top)
    moved = call.emit("Add", call.emit("Round", call.emit("Div", x, scale)), point)
    codes = call.emit("Clip", moved, zero, top)
    return call.emit("Mul", call.emit("Sub", codes, point), scale)


def _grouped(call: Call, x: str, size: int) -> str:
    """With a scale for so many neighbours of a row, whose last group is filled up with zeros."""
    outer, last = _outer(call, x), call.whole([-1])
    groups, width, missing = _in_groups(call, x, size)
    filled = call.emit("Pad", x, call.numbers([0, missing]), "", last) if missing else x
    apart = call.reshape(filled, [*outer, groups, size])
    zero, top = call.constant(0.0, torch.float32), call.constant(127.0, torch.float32)
    ratio = call.emit("Div", call.emit("ReduceMax", call.emit("Abs", apart), last, keepdims=1), top)
    scale = call.emit("Where", call.emit("Equal", ratio, zero), call.constant(1.0, torch.float32), ratio)
    codes = call.emit("Round", call.emit("Div", apart, scale))
    codes = call.emit("Clip", codes, call.constant(-128.0, torch.float32), top)
    rounded = call.reshape(call.emit("Mul", codes, scale), [*outer, width])
    end = call.length(x, call.rank() - 1, call.lengths()[-1])
    return call.emit("Slice", rounded, call.whole([0]), end, last) if missing else rounded


def _outer(call: Call, x: str) -> list[int | str]:
    """What keeps all dims but the last in a Reshape.

    ONNX Runtime 1.32 makes -1 of the only entry that is computed, which it then refuses where there are no rows.
    """
    rank = call.rank()
    if rank == 1 or isinstance(call.lengths()[-1], int):
        return [0] * (rank - 1)
    return [call.emit("Shape", x, start=0, end=rank - 1)]


def _in_groups(call: Call, x: str, size: int) -> tuple[int | str, int | str, int | str]:
    """How many groups a row fills, how long they are together, and by how much that is longer than the row."""
    length = call.lengths()[-1]
    if isinstance(length, int):
        groups = -(-length // size)
        return groups, groups * size, groups * size - length
    row, each = call.length(x, call.rank() - 1), call.whole([size])
    filled = call.emit("Div", call.emit("Add", row, call.whole([size - 1])), each)
    width = call.emit("Mul", filled, each)
    return filled, width, call.emit("Sub", width, row)


def _dynamic(call: Call, x: str) -> str:
    builder = call.graph.builder
    results = [builder.name(f"{call.node.name}_{part}") for part in ("codes", "scale", "zero_point")]
    builder.add("DynamicQuantizeLinear", [x], results, f"{call.node.name}/DynamicQuantizeLinear")
    return call.emit("DequantizeLinear", *results)
