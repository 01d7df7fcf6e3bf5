"""Softmax, normalizations, attention, and what turns channels."""

from __future__ import annotations

import torch

from qfx.onnx.forms.compute import along_channels
from qfx.onnx.graph import END, Call
from qfx.onnx.table import form
from qfx.ops.rotation.reference import hadamard


@form("softmax")
def softmax(call: Call) -> str:
    """Softmax."""
    return call.emit("Softmax", call.value("x"), axis=call.given["dim"])


@form("log_softmax")
def log_softmax(call: Call) -> str:
    """LogSoftmax."""
    return call.emit("LogSoftmax", call.value("x"), axis=call.given["dim"])


@form("causal_softmax")
def causal_softmax(call: Call) -> str:
    """Softmax of what is on or below the diagonal."""
    return call.emit("Softmax", _causal(call, call.value("x")), axis=-1)


def _causal(call: Call, scores: str) -> str:
    """Scores with -inf above the diagonal of the last two dims."""
    ones = call.emit("Expand", call.constant(1, torch.int64), call.emit("Shape", scores, start=-2))
    below = call.emit("Cast", call.emit("Trilu", ones, upper=0), to=9)  # a bool: not every runtime has Trilu of them
    return call.emit("Where", below, scores, call.constant(-torch.inf, torch.float32))


@form("layer_norm")
def layer_norm(call: Call) -> str:
    """LayerNormalization."""
    shape = list(call.given["normalized_shape"])
    weight = call.value("weight") or call.constant(torch.ones(shape))
    x, bias = call.value("x"), call.value("bias")
    return call.emit("LayerNormalization", x, weight, bias, axis=-len(shape), epsilon=call.given["eps"])


@form("rms_norm")
def rms_norm(call: Call) -> str:
    """RMSNormalization is of a newer opset than most runtimes have: spelled out."""
    x, axes, eps = call.value("x"), list(range(-len(call.given["normalized_shape"]), 0)), call.given["eps"]
    eps = torch.finfo(call.dtype).eps if eps is None else eps
    mean = call.emit("ReduceMean", call.emit("Mul", x, x), call.whole(axes), keepdims=1)
    y = call.emit("Div", x, call.emit("Sqrt", call.emit("Add", mean, call.constant(eps, torch.float32))))
    return call.emit("Mul", y, call.value("weight")) if call.given["weight"] is not None else y


@form("group_norm")
def group_norm(call: Call) -> str:
    """InstanceNormalization of groups, then Mul and Add along the channels."""
    x, groups = call.value("x"), call.given["groups"]
    ones, zeros = call.constant(torch.ones(groups)), call.constant(torch.zeros(groups))
    y = call.emit("InstanceNormalization", call.reshape(x, [0, groups, -1]), ones, zeros, epsilon=call.given["eps"])
    y = call.emit("Reshape", y, call.emit("Shape", x))
    for name, kind in (("weight", "Mul"), ("bias", "Add")):
        if call.given[name] is not None:
            y = call.emit(kind, y, along_channels(call, name, call.rank()))
    return y


@form("instance_norm")
def instance_norm(call: Call) -> str:
    """InstanceNormalization."""
    channels = call.length(call.value("x"), 1, call.lengths()[1])

    def filled(value: float) -> str:
        return call.emit("Expand", call.constant(value, torch.float32), channels)

    weight, bias = call.value("weight") or filled(1.0), call.value("bias") or filled(0.0)
    return call.emit("InstanceNormalization", call.value("x"), weight, bias, epsilon=call.given["eps"])


# ------------------------------------------------------------------ attention


@form("attention")
def attention(call: Call) -> str:
    """Products and Softmax; zeros where a mask hides every key."""
    rank = call.rank("key")
    swapped = [*range(rank - 2), rank - 1, rank - 2]
    key, value = _repeated(call, "key"), _repeated(call, "value")
    scores = call.emit("MatMul", call.value("query"), call.emit("Transpose", key, perm=swapped))
    if call.given["scale"] != 1.0:
        scores = call.emit("Mul", scores, call.constant(call.given["scale"], torch.float32))
    if call.given["mask"] is not None:
        scores = call.emit("Add", scores, call.value("mask"))
    if call.given["causal"]:
        scores = _causal(call, scores)
    weights = call.emit("Softmax", scores, axis=-1)
    if call.given["mask"] is not None:
        weights = call.emit("Where", call.emit("IsNaN", weights), call.constant(0.0, torch.float32), weights)
    return call.emit("MatMul", weights, value)


def _repeated(call: Call, name: str) -> str:
    """Keys or values, each head as often as heads of the query share it."""
    value = call.value(name)
    if min(call.rank(name), call.rank("query")) < 3:
        return value
    have, need = (call.given[one].meta["shape"][-3] for one in (name, "query"))
    if have in (1, need) or need % have:
        return value
    rank = call.rank(name)
    apart = call.emit("Unsqueeze", value, call.whole([rank - 2]))
    copies = call.emit("Expand", apart, call.whole([need // have, 1, 1]))
    lengths = [call.length(value, dim, call.lengths(name)[dim]) for dim in range(rank)]
    lengths[rank - 3] = call.whole([need])
    return call.reshape(copies, lengths)


# ------------------------------------------------------------------ channels


@form("rotate")
def rotate(call: Call) -> str:
    """A product with a Hadamard matrix for each block of channels."""
    block, channels = call.given["block"], int(call.given["x"].meta["shape"][-1])
    front = [0] * (call.rank() - 1)
    blocks = call.reshape(call.value("x"), [*front, channels // block, block])
    turned = call.emit("MatMul", blocks, call.constant(hadamard(block), torch.float32))
    return call.reshape(turned, [*front, channels])


@form("rotary")
def rotary(call: Call) -> str:
    """Two products and a sum for each channel of a pair."""
    length, interleaved = call.given["length"], call.given["interleaved"]
    (a, b), (cos_a, cos_b), (sin_a, sin_b) = _pairs(call, "x"), _pairs(call, "cos"), _pairs(call, "sin")
    first = call.emit("Sub", call.emit("Mul", a, cos_a), call.emit("Mul", b, sin_a))
    second = call.emit("Add", call.emit("Mul", b, cos_b), call.emit("Mul", a, sin_b))
    if interleaved:
        apart = [call.emit("Unsqueeze", part, call.whole([-1])) for part in (first, second)]
        together = call.emit("Concat", *apart, axis=-1)
        turned = call.reshape(together, [*[0] * (call.rank() - 1), length])
    else:
        turned = call.emit("Concat", first, second, axis=-1)
    if call.given["x"].meta["shape"][-1] == length:
        return turned
    return call.emit("Concat", turned, _part(call, call.value("x"), length, END), axis=-1)


def _pairs(call: Call, name: str) -> tuple[str, str]:
    """What belongs to the first, and to the second channel of each pair; entries of a pair belong to both."""
    value, length = call.value(name), call.given["length"]
    if call.given[name].meta["shape"][-1] == length // 2:
        return value, value
    if call.given["interleaved"]:
        return _part(call, value, 0, length, 2), _part(call, value, 1, length, 2)
    return _part(call, value, 0, length // 2), _part(call, value, length // 2, length)


def _part(call: Call, value: str, start: int, end: int, step: int = 1) -> str:
    return call.emit("Slice", value, *(call.whole([n]) for n in (start, end, -1, step)))
