"""Exact integer references of pools, mean, sum, maximum and interpolation."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from qfx.ir.types import QArray, QParams
from qfx.ops.arithmetic import expand_channel
from qfx.ops.epilogue import Operand, integers, out_scale, quantized, requantized, through_float64
from qfx.ops.pool import reference as pool
from qfx.ops.shape.integer import moved


def _also_of_floats(fn: Callable[..., Tensor]) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Of a float operand ``fn``, evaluated in float64 and rounded to float32 once."""

    def decorate(exact: Callable[..., Tensor]) -> Callable[..., Tensor]:
        @functools.wraps(exact)
        def either(x: Operand, **kwargs: Any) -> Tensor:
            return exact(x, **kwargs) if isinstance(x, QArray) else through_float64(fn, x, **kwargs)

        return either

    return decorate


@_also_of_floats(pool.max_pool)
def max_pool(
    x: QArray,
    *,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
    out: QParams | None,
) -> Tensor:
    """Maximum of integers over the part of each window that lies inside ``x``."""
    y = pool.max_pool(
        x.values.float(), kernel=kernel, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode
    )
    return moved(x, y, out)


@_also_of_floats(pool.adaptive_max_pool)
def adaptive_max_pool(x: QArray, *, output_size: Sequence[int | None], out: QParams | None) -> Tensor:
    """Maximum of integers over torch's adaptive windows."""
    return moved(x, pool.adaptive_max_pool(x.values.float(), output_size=output_size), out)


@_also_of_floats(pool.avg_pool)
def avg_pool(
    x: QArray,
    *,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
    out: QParams | None,
) -> Tensor:
    """``float(sum) * float32(ratio / count)``: the sum exact, padding adding zeros."""
    spatial = len(kernel)
    lengths = x.values.shape[-spatial:]
    shape = pool.avg_pool(
        torch.empty_like(x.values, dtype=torch.float32, device="meta"),
        kernel=kernel,
        stride=stride,
        padding=padding,
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
        divisor_override=divisor_override,
    ).shape
    spans = [
        _sliding(shape[d - spatial], kernel[d], stride[d], padding[d], lengths[d] + padding[d]) for d in range(spatial)
    ]
    inside = [[(max(lo, 0), min(hi, n)) for lo, hi in span] for span, n in zip(spans, lengths, strict=True)]
    count = _outer_product([[hi - lo for lo, hi in span] for span in (spans if count_include_pad else inside)])
    if divisor_override is not None:
        count = torch.full_like(count, divisor_override)
    return _averaged(_window_sum(integers(x), inside), count, x, out)


@_also_of_floats(pool.adaptive_avg_pool)
def adaptive_avg_pool(x: QArray, *, output_size: Sequence[int | None], out: QParams | None) -> Tensor:
    """Mean over torch's adaptive windows, arithmetic as :func:`avg_pool`."""
    lengths = x.values.shape[-len(output_size) :]
    spans = [
        [(i * n // size, -((-(i + 1) * n) // size)) for i in range(size)]
        for n, size in ((n, n if size is None else size) for n, size in zip(lengths, output_size, strict=True))
    ]
    count = _outer_product([[hi - lo for lo, hi in span] for span in spans])
    return _averaged(_window_sum(integers(x), spans), count, x, out)


@_also_of_floats(pool.mean)
def mean(x: QArray, *, dims: Sequence[int] | None, keepdim: bool, out: QParams | None) -> Tensor:
    """Mean over ``dims`` (all of them when none is given), arithmetic as :func:`avg_pool`."""
    axes, count = _reduced(x, dims)
    return _averaged(integers(x).sum(axes, keepdim=keepdim), count, x, out)


@_also_of_floats(pool.sum_)
def sum_(x: QArray, *, dims: Sequence[int] | None, keepdim: bool, out: QParams | None) -> Tensor:
    """Sum over ``dims``: the mean of ``count`` elements times it, ``float(sum) * float32(ratio * count / count)``."""
    axes, count = _reduced(x, dims)
    return _averaged(integers(x).sum(axes, keepdim=keepdim), count, x, out, times=count)


@_also_of_floats(pool.amax)
def amax(x: QArray, *, dims: Sequence[int] | None, keepdim: bool, out: QParams | None) -> Tensor:
    """Maximum of integers over ``dims``."""
    return moved(x, pool.amax(x.values, dims=dims, keepdim=keepdim), out)


def _reduced(x: QArray, dims: Sequence[int] | None) -> tuple[list[int], Tensor]:
    """The dims counted from the front, and how many elements a result has come from, float64."""
    rank = x.values.dim()
    axes = [d % rank for d in dims] if dims else list(range(rank))
    count = torch.tensor(1.0, dtype=torch.float64)
    for axis in axes:
        count = count * x.values.shape[axis]
    return axes, count


def interpolate(
    x: Operand,
    *,
    size: int | Sequence[int] | None,
    scale_factor: float | Sequence[float] | None,
    mode: str,
    align_corners: bool | None,
    out: QParams | None,
) -> Tensor:
    """Resampling of ``[N, C, *spatial]``.

    Nearest moves integers. The linear modes weigh ``q - zero_point`` in float64, each operation rounded on its own,
    last dim first, and round the result to an integer, ties to even. Other modes are computed in float64. The
    same of float values, without a zero point; the linear modes round to float32 once.
    """
    resample = partial(pool.interpolate, size=size, scale_factor=scale_factor, mode=mode, align_corners=align_corners)
    if mode.startswith("nearest"):
        return moved(x, resample(x.values.float()), out) if isinstance(x, QArray) else quantized(resample(x), out)
    if mode not in ("linear", "bilinear", "trilinear"):
        return through_float64(resample, x, out=out)
    values = x.values if isinstance(x, QArray) else x
    lengths = resample(torch.empty_like(values, dtype=torch.float32, device="meta")).shape[2:]
    v = integers(x) if isinstance(x, QArray) else x.double()
    for d in reversed(range(len(lengths))):
        factor = scale_factor[d] if isinstance(scale_factor, Sequence) else scale_factor
        v = _lerp(v, d + 2, lengths[d], factor, bool(align_corners))
    if not isinstance(x, QArray):
        return quantized(v.float(), out)
    if out is None:
        return (v * x.scale.double()).float()
    return moved(x, torch.round(v) + x.zero_point, out)


def _lerp(x: Tensor, axis: int, length: int, factor: float | None, align_corners: bool) -> Tensor:
    """``x`` resampled along ``axis`` to ``length`` by weighing the two neighbours of each source position."""
    old = x.shape[axis]
    index = torch.arange(length, dtype=torch.float64)
    if align_corners:
        position = index * ((old - 1) / (length - 1) if length > 1 else 0.0)
    else:
        step = old / length if factor is None else 1.0 / factor
        position = ((index + 0.5) * step - 0.5).clamp(min=0.0)
    low = position.to(torch.int64).clamp(max=old - 1)
    t = expand_channel((position - low).clamp(0.0, 1.0), axis, x.dim())
    high = (low + 1).clamp(max=old - 1)
    return x.index_select(axis, low) * (1.0 - t) + x.index_select(axis, high) * t


def _sliding(count: int, kernel: int, stride: int, padding: int, end: int) -> list[tuple[int, int]]:
    """The ``[low, high)`` intervals of ``count`` windows, which begin before 0 in padding and are cut at ``end``."""
    starts = [i * stride - padding for i in range(count)]
    return [(start, min(start + kernel, end)) for start in starts]


def _window_sum(x: Tensor, spans: Sequence[Sequence[tuple[int, int]]]) -> Tensor:
    """Sums over boxes: ``spans[d]`` holds the ``[low, high)`` interval of each output index along spatial dim d."""
    for d, span in enumerate(spans):
        axis = d - len(spans)
        position = torch.arange(x.shape[axis])
        low, high = torch.tensor(span, dtype=torch.int64).reshape(-1, 2).unbind(1)
        window = (position >= low[:, None]) & (position < high[:, None])
        x = (x.transpose(axis, -1) @ window.double().T).transpose(axis, -1)
    return x


def _outer_product(factors: Sequence[Sequence[int]]) -> Tensor:
    product = torch.ones((), dtype=torch.float64)
    for factor in factors:
        product = product.unsqueeze(-1) * torch.tensor(factor, dtype=torch.float64)
    return product


def _averaged(total: Tensor, count: Tensor, x: QArray, out: QParams | None, times: Tensor | float = 1.0) -> Tensor:
    # Of an empty window the sum is 0, whatever it is divided by.
    count = count.clamp(min=1.0)
    unit = x.scale.double() if out is None else x.scale.double() / out_scale(out).double()
    v = total.float() * (unit * times / count).float()
    return v if out is None else requantized(v, out)
