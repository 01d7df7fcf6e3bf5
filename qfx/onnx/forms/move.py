"""Ops that only move elements, and the lengths of dims."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from qfx.onnx.graph import END, Call
from qfx.onnx.table import form
from qfx.ops.dims import Length


@form("size")
def size(call: Call) -> str:
    """The length of a dim, int64 ``[1]``: a constant where the graph says it."""
    dim = call.given["dim"] % call.rank()
    return call.length(call.value("x"), dim, call.lengths()[dim])


@form("cat")
def cat(call: Call) -> str:
    """Concat."""
    parts = [call.as_dtype(item, call.dtype) for item in call.given["tensors"]]
    return call.emit("Concat", *parts, axis=call.given["dim"])


@form("stack")
def stack(call: Call) -> str:
    """Concat along a new dim."""
    dim = call.given["dim"] % len(call.node.meta["shape"])
    parts = [call.as_dtype(item, call.dtype) for item in call.given["tensors"]]
    return call.emit("Concat", *(call.emit("Unsqueeze", part, call.whole([dim])) for part in parts), axis=dim)


@form("pixel_shuffle")
def pixel_shuffle(call: Call) -> str:
    """DepthToSpace."""
    return _blocks(call, lambda x: call.emit("DepthToSpace", x, blocksize=call.given["factor"], mode="CRD"))


@form("pixel_unshuffle")
def pixel_unshuffle(call: Call) -> str:
    """SpaceToDepth, with channels in torch's order: those of a pixel beside each other."""
    factor = call.given["factor"]
    channels = call.lengths()[-3]

    def moved(x: str) -> str:
        y = call.emit("SpaceToDepth", x, blocksize=factor)  # channels as [factor * factor, C]
        if channels == 1:
            return y
        width = (call.length(x, 2), call.length(x, 3))
        block = call.whole([factor])
        spatial = [call.emit("Div", one, block) for one in width]
        apart = call.reshape(y, [0, factor * factor, -1, *spatial])
        together = call.emit("Transpose", apart, perm=[0, 2, 1, 3, 4])
        joined = channels * factor * factor if isinstance(channels, int) else -1
        return call.reshape(together, [0, joined, *spatial])

    return _blocks(call, moved)


def _blocks(call: Call, moved: Any) -> str:
    """``moved`` of ``[N, C, H, W]``, to which other dims in front are brought."""
    rank = call.rank()
    x = call.value("x")
    if rank == 4:
        return str(moved(x))
    if rank == 3:
        return call.emit("Squeeze", moved(call.emit("Unsqueeze", x, call.whole([0]))), call.whole([0]))
    last = [call.length(x, dim, call.lengths()[dim]) for dim in range(rank - 3, rank)]
    y = moved(call.reshape(x, [-1, *last]))
    outer = call.emit("Shape", x, start=0, end=rank - 3)
    shape = call.emit("Concat", outer, call.emit("Shape", y, start=1), axis=0)
    return call.emit("Reshape", y, shape)


@form("channel_shuffle")
def channel_shuffle(call: Call) -> str:
    """Gather of the channels; Reshape, Transpose, Reshape where their number is free.

    OpenVINO knows the latter for a shuffle, and (2026.4) moves scales of channels past it that should be shuffled, too.
    """
    rank, groups, x = call.rank(), call.given["groups"], call.value("x")
    channels = call.lengths()[1]
    if isinstance(channels, int):
        order = torch.arange(channels).reshape(groups, -1).t().reshape(-1)
        return call.emit("Gather", x, call.constant(order), axis=1)
    spatial = [call.length(x, dim, call.lengths()[dim]) for dim in range(2, rank)]
    y = call.reshape(x, [0, groups, -1, *spatial])
    y = call.emit("Transpose", y, perm=[0, 2, 1, *range(3, rank + 1)])
    return call.reshape(y, [0, -1, *spatial])


_PADDING = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
"""Modes of Pad by torch's."""


@form("pad")
def pad(call: Call) -> str:
    """Pad. Where numbers are negative, it crops first."""
    amounts, mode = list(call.given["pad"]), call.given["mode"]
    if not all(isinstance(one, int) for one in amounts):
        raise call.refuse("The padding is computed from sizes.", "Pad by numbers.")
    rank = call.rank()
    dims = [rank - 1 - i for i in range(len(amounts) // 2)]
    x = _cropped(call, call.value("x"), dims, amounts)
    pads = [max(one, 0) for one in (*amounts[::2], *amounts[1::2])]
    value = call.constant(call.given["value"] or 0, call.dtype) if mode == "constant" else ""
    return call.emit("Pad", x, call.whole(pads), value, call.whole(dims), mode=_PADDING[mode])


def _cropped(call: Call, x: str, dims: list[int], amounts: list[int]) -> str:
    cut = [(d, low, high) for d, low, high in zip(dims, amounts[::2], amounts[1::2], strict=True) if min(low, high) < 0]
    if not cut:
        return x
    starts, ends = [max(-low, 0) for _, low, _ in cut], [min(high, 0) or END for *_, high in cut]
    return call.emit("Slice", x, call.whole(starts), call.whole(ends), call.whole([d for d, *_ in cut]))


@form("windows")
def windows(call: Call) -> str:
    """Gather along each dim; the elements of a window then go to the end."""
    x, axes, lengths = call.value("x"), list(range(call.rank())), list(call.lengths())
    along = [dim % call.rank() for dim in call.given["dims"]]
    sizes = (call.given[name] for name in ("size", "stride", "dilation"))
    for dim, size, stride, apart in zip(along, *sizes, strict=True):
        at, offsets = axes.index(dim), torch.arange(size) * apart
        x = call.emit("Gather", x, _places(call, x, at, lengths[dim], offsets, stride), axis=at)
        lengths[dim] = (lengths[dim] - (size - 1) * apart - 1) // stride + 1
        axes.insert(at + 1, len(axes))
    return call.emit("Transpose", x, perm=[axes.index(axis) for axis in range(len(axes))])


def _places(call: Call, x: str, dim: int, length: Length, offsets: torch.Tensor, stride: int) -> str:
    """What each window along a dim takes, int64 ``[windows, size]``."""
    reach = int(offsets[-1]) + 1
    if isinstance(length, int):
        return call.constant(torch.arange(0, length - reach + 1, stride)[:, None] + offsets)
    beyond = call.emit("Sub", call.emit("Squeeze", call.length(x, dim)), call.whole(reach - 1))
    starts = call.emit("Range", call.whole(0), beyond, call.whole(stride))
    return call.emit("Add", call.emit("Unsqueeze", starts, call.whole([1])), call.constant(offsets))


@form("reshape")
def reshape(call: Call) -> str:
    """Reshape."""
    shape: list[int | fx.Node] = list(call.given["shape"])
    if len(shape) == 0:
        return call.emit("Reshape", call.value("x"), call.constant(torch.zeros(0, dtype=torch.int64)))
    return call.reshape(call.value("x"), shape)


@form("flatten")
def flatten(call: Call) -> str:
    """Reshape: dims in front stay, dims behind are named."""
    rank, x = call.rank(), call.value("x")
    if rank == 0:
        return call.reshape(x, [1])
    start, end = (call.given[name] % rank for name in ("start_dim", "end_dim"))
    behind = [call.length(x, dim, call.lengths()[dim]) for dim in range(end + 1, rank)]
    return call.reshape(x, [*[0] * start, -1, *behind])


@form("permute")
def permute(call: Call) -> str:
    """Transpose."""
    return call.emit("Transpose", call.value("x"), perm=[dim % call.rank() for dim in call.given["dims"]])


@form("transpose")
def transpose(call: Call) -> str:
    """Transpose of two dims."""
    rank = call.rank()
    perm = list(range(rank))
    if rank:
        i, j = call.given["dim0"] % rank, call.given["dim1"] % rank
        perm[i], perm[j] = j, i
    return call.emit("Transpose", call.value("x"), perm=perm)


@form("dropout")
def dropout(call: Call) -> str:
    """Nothing."""
    return call.value("x")


@form("slice")
def slice_(call: Call) -> str:
    """Slice."""
    start, end = call.given["start"], call.given["end"]
    bounds = (call.number(0 if start is None else start), call.number(END if end is None else end))
    return call.emit(
        "Slice",
        call.value("x"),
        *bounds,
        call.whole([call.given["dim"] % call.rank()]),
        call.whole([call.given["step"]]),
    )


@form("select")
def select(call: Call) -> str:
    """Gather at one place."""
    return call.emit("Gather", call.value("x"), call.scalar(call.given["index"]), axis=call.given["dim"])


@form("squeeze")
def squeeze(call: Call) -> str:
    """Squeeze of the dims that have length 1."""
    dim, shape = call.given["dim"], call.given["x"].meta["shape"]
    wanted = range(len(shape)) if dim is None else [dim] if isinstance(dim, int) else dim
    gone = sorted({d % len(shape) for d in wanted if shape[d] == 1}) if shape else []
    return call.emit("Squeeze", call.value("x"), call.whole(gone)) if gone else call.value("x")


@form("unsqueeze")
def unsqueeze(call: Call) -> str:
    """Unsqueeze."""
    return call.emit("Unsqueeze", call.value("x"), call.whole([call.given["dim"] % (call.rank() + 1)]))


@form("expand")
def expand(call: Call) -> str:
    """Expand, to which a length of 1 is what keeps a dim."""
    shape = [1 if one == -1 else one for one in call.given["shape"]]
    if not shape:
        return call.value("x")
    return call.emit("Expand", call.value("x"), call.numbers(shape))
