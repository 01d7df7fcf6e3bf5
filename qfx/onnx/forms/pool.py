"""Pools, reductions and resampling."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx

from qfx.onnx.graph import Call
from qfx.onnx.table import form

_MOST = 64
"""Windows of different lengths along one dim that are spelled out one by one."""


def _batched(call: Call, spatial: int, pool: Callable[[str], str]) -> str:
    """``pool`` of a batch; of a batch of one where there is none."""
    if call.rank() == spatial + 2:
        return pool(call.value("x"))
    return call.emit("Squeeze", pool(call.emit("Unsqueeze", call.value("x"), call.whole([0]))), call.whole([0]))


def _window(call: Call) -> tuple[list[int], int]:
    """``pads`` and ``ceil_mode``, as numbers where the length is known: then no one needs to agree on what the last
    window is."""
    kernel, stride, padding = (call.given[name] for name in ("kernel", "stride", "padding"))
    dilation = call.given.get("dilation") or [1] * len(kernel)
    lengths = call.lengths()[-len(kernel) :]
    if not call.given["ceil_mode"]:
        return [*padding, *padding], 0
    if not all(isinstance(length, int) for length in lengths):
        return [*padding, *padding], 1
    highs = [_high(*one) for one in zip(lengths, kernel, stride, padding, dilation, strict=True)]
    return [*padding, *highs], 0


def _high(length: Any, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """What a dim needs behind it to have as many windows as rounding up gives; the last begins inside or in front."""
    reach = dilation * (kernel - 1) + 1
    count = -(-(length + 2 * padding - reach) // stride) + 1
    if (count - 1) * stride >= length + padding:
        count -= 1
    return max((count - 1) * stride + reach - length - padding, 0)


@form("max_pool")
def max_pool(call: Call) -> str:
    """MaxPool."""
    pads, ceil = _window(call)
    kernel = call.given["kernel"]
    settings = {"kernel_shape": kernel, "strides": call.given["stride"], "dilations": call.given["dilation"]}
    return _batched(call, len(kernel), lambda x: call.emit("MaxPool", x, pads=pads, ceil_mode=ceil, **settings))


@form("avg_pool")
def avg_pool(call: Call) -> str:
    """AveragePool. Where what is padded counts and windows reach past it, a Pad in front; a divisor is a Mul behind."""
    kernel, padding, divisor = (call.given[name] for name in ("kernel", "padding", "divisor_override"))
    pads, ceil = _window(call)
    counts = call.given["count_include_pad"] and any(padding) and divisor is None
    settings = {"kernel_shape": kernel, "strides": call.given["stride"], "ceil_mode": ceil}

    def pool(x: str) -> str:
        if not (counts and call.given["ceil_mode"]):
            include = int(counts or divisor is not None)
            return call.emit("AveragePool", x, pads=pads, count_include_pad=include, **settings)
        padded, beyond = _counted(call, x, pads)
        return call.emit("AveragePool", padded, pads=beyond, count_include_pad=0, **settings)

    y = _batched(call, len(kernel), pool)
    return y if divisor is None else call.emit("Mul", y, call.constant(math.prod(kernel) / divisor, torch.float32))


def _counted(call: Call, x: str, pads: list[int]) -> tuple[str, list[int]]:
    """``x`` with the padding that counts, and what lies beyond it."""
    padding = list(call.given["padding"])
    spatial = len(padding)
    call.known(range(call.rank() - spatial, call.rank()), "A pool that rounds up and counts its padding")
    highs = [min(high, most) for high, most in zip(pads[spatial:], padding, strict=True)]
    axes = list(range(2, 2 + spatial))
    padded = call.emit("Pad", x, call.whole([*padding, *highs]), "", call.whole(axes))
    return padded, [0] * spatial + [pad - high for pad, high in zip(pads[spatial:], highs, strict=True)]


@form("adaptive_avg_pool")
def adaptive_avg_pool(call: Call) -> str:
    """ReduceMean, AveragePool where all windows are alike, else products with what each window takes of a dim."""
    return _adaptive(call, "AveragePool", "ReduceMean", _averaged)


@form("adaptive_max_pool")
def adaptive_max_pool(call: Call) -> str:
    """ReduceMax, MaxPool where all windows are alike, else the largest of each window."""
    return _adaptive(call, "MaxPool", "ReduceMax", _largest)


def _adaptive(call: Call, pool: str, reduce: str, along: Callable[[Call, str, int, int, int], str]) -> str:
    sizes, rank = list(call.given["output_size"]), call.rank()
    first = rank - len(sizes)
    if all(size == 1 for size in sizes):
        return call.emit(reduce, call.value("x"), call.whole(list(range(first, rank))), keepdims=1)
    dims = [first + i for i, size in enumerate(sizes) if size is not None]
    lengths = dict(zip(dims, call.known(dims, "A pool to a fixed size"), strict=True))
    wanted = {dim: int(sizes[dim - first]) for dim in dims}
    if all(lengths[dim] % wanted[dim] == 0 for dim in dims):
        kernel = [lengths[d] // wanted[d] if d in lengths else 1 for d in range(first, rank)]
        return _batched(call, len(sizes), lambda x: call.emit(pool, x, kernel_shape=kernel, strides=kernel))
    value = call.value("x")
    for dim in dims:
        value = along(call, value, dim, lengths[dim], wanted[dim])
    return value


def _windows(length: int, count: int) -> list[tuple[int, int]]:
    return [(i * length // count, -(-(i + 1) * length // count)) for i in range(count)]


def _averaged(call: Call, value: str, dim: int, length: int, count: int) -> str:
    shares = torch.zeros(length, count)
    for index, (start, end) in enumerate(_windows(length, count)):
        shares[start:end, index] = 1.0 / (end - start)
    swapped = list(range(call.rank()))
    swapped[dim], swapped[-1] = swapped[-1], swapped[dim]
    last = dim == call.rank() - 1
    y = call.emit("MatMul", value if last else call.emit("Transpose", value, perm=swapped), call.constant(shares))
    return y if last else call.emit("Transpose", y, perm=swapped)


def _largest(call: Call, value: str, dim: int, length: int, count: int) -> str:
    if count > _MOST:
        raise call.refuse(f"It has {count} windows of different lengths.", "Pool to a size that divides the input's.")
    parts = []
    for start, end in _windows(length, count):
        part = call.emit("Slice", value, call.whole([start]), call.whole([end]), call.whole([dim]))
        parts.append(call.emit("ReduceMax", part, call.whole([dim]), keepdims=1))
    return call.emit("Concat", *parts, axis=dim)


def _reduced(call: Call, kind: str, x: str) -> str:
    dims = call.given["dims"]
    if call.rank() == 0:
        return call.emit("Identity", x)
    axes = call.whole(list(dims)) if dims else ""
    return call.emit(kind, x, axes, keepdims=int(call.given["keepdim"]))


@form("mean")
def mean(call: Call) -> str:
    """ReduceMean."""
    return _reduced(call, "ReduceMean", call.cast("x"))


@form("sum")
def sum_(call: Call) -> str:
    """ReduceSum."""
    return _reduced(call, "ReduceSum", call.cast("x"))


@form("amax")
def amax(call: Call) -> str:
    """ReduceMax."""
    return _reduced(call, "ReduceMax", call.value("x"))


@form("interpolate")
def interpolate(call: Call) -> str:
    """Resize of the spatial dims."""
    size, scale, mode = (call.given[name] for name in ("size", "scale_factor", "mode"))
    spatial = call.rank() - 2
    if mode == "area":
        raise call.refuse("ONNX has no resampling by area.", 'Use adaptive_avg_pool, or mode="bilinear".')
    how = _resampling(mode, bool(call.given["align_corners"]))
    axes = list(range(2, call.rank()))
    if size is not None:
        sizes: Sequence[int | fx.Node] = list(size) if isinstance(size, (list, tuple)) else [size] * spatial
        return call.emit("Resize", call.value("x"), "", "", call.numbers(sizes), axes=axes, **how)
    scales = list(scale) if isinstance(scale, (list, tuple)) else [scale] * spatial
    return call.emit("Resize", call.value("x"), "", call.constant(scales, torch.float32), axes=axes, **how)


def _resampling(mode: str, align_corners: bool) -> dict[str, Any]:
    """Attributes of Resize."""
    if mode == "nearest":
        return {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    if mode == "nearest-exact":
        return {"mode": "nearest", "coordinate_transformation_mode": "half_pixel", "nearest_mode": "round_prefer_ceil"}
    places = "align_corners" if align_corners else "half_pixel"
    if mode == "bicubic":
        return {"mode": "cubic", "coordinate_transformation_mode": places, "cubic_coeff_a": -0.75}
    return {"mode": "linear", "coordinate_transformation_mode": places}
