"""Layers and arithmetic."""

from __future__ import annotations

from qfx.onnx.graph import Call
from qfx.onnx.table import form


@form("conv")
def conv(call: Call) -> str:
    """Conv, of a batch of one where there is none."""
    weight_rank = call.rank("weight")
    batched = call.rank() == weight_rank
    x = call.value("x") if batched else call.emit("Unsqueeze", call.value("x"), call.whole([0]))
    lows, highs = zip(*call.given["padding"], strict=True)
    y = call.emit(
        "Conv", x, call.value("weight"), call.value("bias"), strides=call.given["stride"], pads=[*lows, *highs],
        dilations=call.given["dilation"], group=call.given["groups"],
    )  # fmt: skip
    return _ended(call, y if batched else call.emit("Squeeze", y, call.whole([0])))


@form("linear")
def linear(call: Call) -> str:
    """Gemm of a matrix; of other values MatMul, whose weight is stored transposed."""
    weight = call.given["weight"]
    if call.rank() == 2:
        return _ended(call, call.emit("Gemm", call.value("x"), call.value("weight"), call.value("bias"), transB=1))
    stored = call.graph.transposed(weight)
    y = call.emit("MatMul", call.value("x"), stored or call.emit("Transpose", call.value("weight"), perm=[1, 0]))
    return _ended(call, call.emit("Add", y, call.value("bias")) if call.given["bias"] is not None else y)


def _ended(call: Call, y: str) -> str:
    """With the residual and the activation."""
    residual = call.value("residual")
    return call.clamped(call.emit("Add", y, residual) if residual else y, call.given["activation"])


@form("channel_affine")
def channel_affine(call: Call) -> str:
    """Mul and Add along dim 1."""
    y = call.emit("Mul", call.value("x"), along_channels(call, "weight", call.rank()))
    if call.given["bias"] is not None:
        y = call.emit("Add", y, along_channels(call, "bias", call.rank()))
    return call.clamped(y, call.given["activation"])


def along_channels(call: Call, name: str, rank: int) -> str:
    """A vector as it broadcasts along dim 1 of a value of this rank."""
    return (
        call.emit("Unsqueeze", call.value(name), call.whole(list(range(1, rank - 1)))) if rank > 2 else call.value(name)
    )


@form("matmul")
def matmul(call: Call) -> str:
    """MatMul, times the factor."""
    y = call.emit("MatMul", call.value("x"), call.value("y"))
    if call.given["factor"] != 1.0:
        y = call.emit("Mul", y, call.constant(call.given["factor"], call.dtype))
    return call.clamped(y, call.given["activation"])


def _pairwise(call: Call, kind: str) -> str:
    y = call.emit(kind, call.cast("x"), call.cast("y"))
    return call.clamped(y, call.given.get("activation"))


@form("add")
def add(call: Call) -> str:
    """Add."""
    return _pairwise(call, "Add")


@form("sub")
def sub(call: Call) -> str:
    """Sub."""
    return _pairwise(call, "Sub")


@form("mul")
def mul(call: Call) -> str:
    """Mul."""
    return _pairwise(call, "Mul")


@form("div")
def div(call: Call) -> str:
    """Div."""
    return _pairwise(call, "Div")
