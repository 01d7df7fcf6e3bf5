"""The kernels of fake quantization, on dense CPU tensors in place: layouts, addresses, gradients."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from qfx.memory import is_plain, is_watched, plain_address
from qfx.quantization.fake_quantize.formula import OPEN, Rounding
from qfx.runtime import _C
from qfx.runtime.threads import default_threads

_ELEMENTS = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
_WIDEST = 255
ALL_PASSED, SOME_BLOCKED, NOT_FINITE = range(3)

Layout = tuple[int, int, int, int]
StatisticsFields = tuple[int, int, bool, float, bool, int, float, int]


class Grid(NamedTuple):
    """What values are rounded to: ``scale`` float32 and ``zero_point`` int32, dense, one a channel."""

    scale: Tensor
    zero_point: Tensor
    rounding: Rounding


def runs(x: Tensor) -> bool:
    """Whether the kernels take ``x``: real memory of a CPU, a dtype they know, nobody recording or transforming."""
    return not torch.compiler.is_compiling() and x.dtype in _ELEMENTS and is_plain(x) and not is_watched()


def takes(rounding: Rounding, *state: Tensor) -> bool:
    """Whether the kernels take this range, and each of ``state`` as memory they may read and write."""
    narrow = rounding.qmax - rounding.qmin <= _WIDEST
    return narrow and all(is_plain(t) and t.is_contiguous() and t.dtype in (torch.float32, torch.int32) for t in state)


def dense(x: Tensor) -> Tensor:
    """``x`` where it has memory with neither gaps nor overlaps, in any order; else a contiguous copy."""
    if x._is_zerotensor():
        return torch.zeros(x.shape, dtype=x.dtype)
    x = x.resolve_neg() if x.is_neg() else x
    if x.is_contiguous() or x.stride() == torch.empty_like(x).stride():
        return x
    return x.contiguous()


def layout_of(x: Tensor, axis: int | None) -> Layout:
    """Element type, and the sizes around the channels in memory, of a dense tensor; no channels for one of size 1."""
    element = _ELEMENTS[x.dtype]
    channels = 1 if axis is None else x.shape[axis]
    if axis is None or channels == 1:
        return element, 1, 1, x.numel()
    inner = x.stride(axis)
    return element, x.numel() // (channels * inner), channels, inner


def extremes(x: Tensor, axis: int | None) -> Tensor:
    """``[2, channels]`` float32: minima, then negated maxima; -inf in both where a value is not finite."""
    x = dense(x)
    layout = layout_of(x, axis)
    found = torch.empty(2, layout[2])
    finite = _C.fake_quant_extremes(plain_address(x), layout, plain_address(found), default_threads())
    if not finite:
        return torch.full_like(found, -torch.inf)
    found[1].neg_()
    return found


def update(grid: Grid, statistics: StatisticsFields) -> int:
    """Take known extremes into the statistics and compute the qparams; returns an outcome."""
    layout = (0, 1, grid.scale.numel(), 1)
    bounds = grid.rounding.qmin, grid.rounding.qmax
    scale, zero_point = plain_address(grid.scale), plain_address(grid.zero_point)
    return int(_C.fake_quant_forward(0, 0, 0, scale, zero_point, layout, bounds, OPEN, statistics, 1))


def forward(
    x: Tensor, grid: Grid, statistics: StatisticsFields | None, y: Tensor | None, passed: bool
) -> tuple[int, Tensor | None]:
    """Observe, where there are statistics, and round dense ``x`` into ``y``, where there is one.

    Returns:
        The outcome; and where asked for, which values ``passed``, one bit each.
    """
    layout = layout_of(x, grid.rounding.axis)
    bits = torch.empty(_C.fake_quant_mask_bytes(layout), dtype=torch.uint8) if passed else None
    outcome = _C.fake_quant_forward(
        plain_address(x),
        0 if y is None else plain_address(y),
        0 if bits is None else plain_address(bits),
        plain_address(grid.scale),
        plain_address(grid.zero_point),
        layout,
        (grid.rounding.qmin, grid.rounding.qmax),
        grid.rounding.gate,
        statistics,
        default_threads(),
    )
    return int(outcome), bits


def like(g: Tensor, strides: tuple[int, ...]) -> Tensor:
    """``g`` in the memory order that ``strides`` give."""
    if g.stride() == strides:
        return g
    return torch.empty_strided(g.shape, strides, dtype=g.dtype).copy_(g)


def masked(g: Tensor, bits: Tensor, axis: int | None) -> Tensor:
    """``g``, dense as what the bits belong to, where its bit is set; 0 elsewhere."""
    gx = torch.empty_like(g)
    layout = layout_of(g, axis)
    _C.fake_quant_backward(plain_address(g), plain_address(bits), plain_address(gx), layout, default_threads())
    return gx


def learn(x: Tensor, g: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """The gradient of dense ``x``, and what those of its qparams are made of.

    Returns:
        As ``x``; and float64 ``[3, channels]``, the sums of ``g * (rint(x / scale) - x / scale)`` over what passed, of
        ``g`` below the range, and of ``g`` above it.
    """
    layout, rounding = layout_of(x, grid.rounding.axis), grid.rounding
    g = like(g, x.stride())
    gx, sums = torch.empty_like(x), torch.empty(3, layout[2], dtype=torch.float64)
    _C.fake_quant_learn_backward(
        plain_address(x),
        plain_address(g),
        plain_address(gx),
        plain_address(grid.scale),
        plain_address(grid.zero_point),
        plain_address(sums),
        layout,
        (rounding.qmin, rounding.qmax),
        rounding.gate,
        default_threads(),
    )
    return gx, sums


class Rounded(torch.autograd.Function):
    """``forward``, differentiable: 1 where values passed, and nothing is computed where all of them did."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, grid: Grid, statistics: StatisticsFields | None, in_place: bool, outcomes: list[int]
    ) -> Tensor:
        x_dense = dense(x)
        y = x if in_place and x_dense is x else torch.empty_like(x_dense)
        outcome, bits = forward(x_dense, grid, statistics, y, passed=True)
        outcomes.append(outcome)
        if y is x:
            ctx.mark_dirty(x)
        ctx.strides, ctx.axis = y.stride(), grid.rounding.axis
        if outcome == SOME_BLOCKED:
            ctx.save_for_backward(bits)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (g,) = grads
        if not ctx.saved_tensors:
            return g, None, None, None, None
        (bits,) = ctx.saved_tensors
        if not runs(g) or (torch.is_grad_enabled() and g.requires_grad):
            ones = torch.empty_strided(g.shape, ctx.strides, dtype=torch.float32).fill_(1.0)
            return torch.where(masked(ones, bits, ctx.axis) != 0, g, 0.0), None, None, None, None
        return masked(like(g, ctx.strides), bits, ctx.axis), None, None, None, None
