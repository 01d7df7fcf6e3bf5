"""Rounding with the gradients of its scale and zero point, and clipping with that of its end."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from qfx.quantization.fake_quantize import formula, kernel
from qfx.quantization.fake_quantize.formula import Gate, Rounding


class Learning(NamedTuple):
    """How qparams are learned.

    Attributes:
        rounding: The integer range, and the axis.
        eps: Smallest scale.
        factor: What the gradients of scale and zero point are multiplied by.
    """

    rounding: Rounding
    eps: float
    factor: float


def effective(scale: Tensor, zero_point: Tensor, learning: Learning) -> tuple[Tensor, Tensor]:
    """The scale and zero point in use, detached: at least ``eps``; whole and in range, int32."""
    low, high = learning.rounding.qmin, learning.rounding.qmax
    return scale.detach().clamp(min=learning.eps), zero_point.detach().round().clamp(low, high).to(torch.int32)


def learned(x: Tensor, scale: Tensor, zero_point: Tensor, learning: Learning) -> Tensor:
    """``x`` fake-quantized, with gradients to ``scale`` and ``zero_point``: see LearnableFakeQuantize.

    Raises:
        UnsupportedError: A transform of torch.func is at work.
    """
    if torch._C._are_functorch_transforms_active():
        raise formula.no_transform("torch.vmap or torch.func with a learned scale")
    y: Tensor = _Learned.apply(x, scale, zero_point, learning)  # type: ignore[no-untyped-call]
    return y


def clipped(x: Tensor, alpha: Tensor, end: Tensor, quant_max: int, rounding: bool) -> Tensor:
    """``clamp(x, 0, end)`` in ``quant_max`` steps, with the gradient of ``x >= end`` to ``alpha``.

    Args:
        x: Any shape.
        alpha: ``[1]``, which takes the gradient.
        end: ``[1]``, its value in use.
        quant_max: Number of steps.
        rounding: Whether to round.
    """
    if x.numel() == 0:
        return x
    if rounding and kernel.runs(x) and alpha.dtype == torch.float32 and alpha.is_cpu:
        y: Tensor = _Clipped.apply(x, alpha, end, quant_max)  # type: ignore[no-untyped-call]
        return y
    value = end.to(x.dtype) + (alpha - alpha.detach()).to(x.dtype)
    y = torch.where(x >= end, value, torch.relu(x))
    if not rounding:
        return y
    scale = end / quant_max
    return formula.fake_quantize(y, scale, torch.zeros_like(scale), Rounding(0, quant_max))


class _Learned(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero_point: Tensor, learning: Learning) -> Tensor:
        used, whole = effective(scale, zero_point, learning)
        ctx.learning, ctx.dtypes = learning, (scale.dtype, zero_point.dtype)
        ctx.by_kernel = kernel.runs(x) and kernel.takes(learning.rounding, used, whole)
        if ctx.by_kernel:
            x = kernel.dense(x)
            ctx.save_for_backward(x, used, whole)
            y = torch.empty_like(x)
            kernel.forward(x, kernel.Grid(used, whole, learning.rounding), None, y, False)
            return y
        ctx.save_for_backward(x, used, whole)
        return formula.steps_of(x, used, whole, learning.rounding).value(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, scale, zero_point = ctx.saved_tensors
        learning: Learning = ctx.learning
        rounding = learning.rounding
        if ctx.by_kernel and kernel.runs(grads[0]):
            gx, sums = kernel.learn(x, grads[0], kernel.Grid(scale, zero_point, rounding))
        else:
            gx, sums = _learn(x, grads[0], scale, zero_point, rounding)
        residual, low, high = sums
        at_scale = residual + low * (rounding.qmin - zero_point) + high * (rounding.qmax - zero_point)
        at_zero = -(low + high) * scale
        (scale_dtype, zero_dtype), factor = ctx.dtypes, learning.factor
        learns_zero = zero_dtype.is_floating_point
        return (
            gx,
            (at_scale * factor).to(scale_dtype),
            (at_zero * factor).to(zero_dtype) if learns_zero else None,
            None,
        )


def _learn(x: Tensor, g: Tensor, scale: Tensor, zero_point: Tensor, rounding: Rounding) -> tuple[Tensor, Tensor]:
    """The gradient of ``x``, and float64 ``[3, channels]``: what kernel.learn gives, in torch operations."""
    steps = formula.steps_of(x, scale, zero_point, rounding)
    wide = g.double()
    terms = torch.stack(
        [
            torch.where(steps.passed, wide * (steps.whole - steps.exact), 0.0),
            torch.where(steps.whole < steps.low, wide, 0.0),
            torch.where(steps.whole > steps.high, wide, 0.0),
        ]
    )
    if rounding.axis is None or scale.numel() == 1:
        sums = terms.flatten(1).sum(1, keepdim=True)
    else:
        sums = terms.movedim(rounding.axis + 1, 1).reshape(3, scale.numel(), -1).sum(2)
    return torch.where(steps.passed, g, 0.0), sums


class _Clipped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: Tensor, end: Tensor, quant_max: int) -> Tensor:
        x = kernel.dense(x)
        ctx.rounding = Rounding(0, quant_max, None, Gate(0.0, float(end)))
        scale = end / quant_max
        zero_point = torch.zeros_like(scale, dtype=torch.int32)
        ctx.save_for_backward(x, scale, zero_point)
        y = torch.empty_like(x)
        kernel.forward(x, kernel.Grid(scale, zero_point, ctx.rounding), None, y, False)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, scale, zero_point = ctx.saved_tensors
        (g,) = grads
        if kernel.runs(g):
            gx, sums = kernel.learn(x, g, kernel.Grid(scale, zero_point, ctx.rounding))
            return gx, sums[2].float(), None, None
        gate: Gate = ctx.rounding.gate
        above = torch.where(x >= gate.hi, g, 0.0).sum().reshape(1)
        return torch.where((x > gate.lo) & (x < gate.hi), g, 0.0), above.float(), None, None
