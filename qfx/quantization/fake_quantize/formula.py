"""Fake quantization in torch operations: any device and float dtype, and what compilers and exporters look into."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from qfx.errors import UnsupportedError
from qfx.ops.arithmetic import expand_channel


class Gate(NamedTuple):
    """An activation in front: values are clamped to ``lo..hi`` first; gradients pass strictly between."""

    lo: float = -math.inf
    hi: float = math.inf

    def apply(self, x: Tensor) -> Tensor:
        """The activation alone."""
        if self == OPEN:
            return x
        return F.hardtanh(x, self.lo, self.hi) if math.isfinite(self.lo + self.hi) else _one_sided(x, self)


OPEN = Gate()
_WITHOUT_RULE = (torch._C._functorch.TransformType.Functionalize, torch._C._functorch.TransformType.Jvp)


class Rounding(NamedTuple):
    """The integers ``qmin..qmax``, with a scale along ``axis`` (None: one) and an activation in front."""

    qmin: int
    qmax: int
    axis: int | None = None
    gate: Gate = OPEN


class Steps(NamedTuple):
    """``x`` in steps of the scale: float64, shapes broadcast against it.

    Attributes:
        exact: ``x / scale``.
        whole: The integer next to it, half to even.
        low: The ends of the integer range less the zero point.
        high: Likewise.
        scale: As given, broadcastable.
    """

    exact: Tensor
    whole: Tensor
    low: Tensor
    high: Tensor
    scale: Tensor

    @property
    def passed(self) -> Tensor:
        """Where the integer lies in the range; False for NaN."""
        return (self.whole >= self.low) & (self.whole <= self.high)

    def value(self, dtype: torch.dtype) -> Tensor:
        """``clamp(whole) * scale``, one rounding in float32 (float64 for float64), then to ``dtype``."""
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        kept = torch.minimum(torch.maximum(self.whole, self.low), self.high)
        return (kept.to(wide) * self.scale.to(wide) + 0.0).to(dtype)


def steps_of(x: Tensor, scale: Tensor, zero_point: Tensor, rounding: Rounding) -> Steps:
    """``x`` in steps; float64, where a quotient of float32 numbers is rounded right at every tie.

    Args:
        x: Any shape and float dtype.
        scale: ``[1]``, or ``[channels]``.
        zero_point: Integers in any dtype, shaped as ``scale``.
        rounding: The integer range and the axis.
    """
    axis = rounding.axis if scale.numel() > 1 else None
    spread_scale, spread_zero = (expand_channel(v.detach(), axis, x.dim()) for v in (scale, zero_point))
    exact = x.detach().double() / spread_scale.double()
    zero = spread_zero.double()
    return Steps(exact, torch.round(exact), rounding.qmin - zero, rounding.qmax - zero, spread_scale)


def fake_quantize(x: Tensor, scale: Tensor, zero_point: Tensor, rounding: Rounding) -> Tensor:
    """``(clamp(rint(x / scale) + zero_point, qmin, qmax) - zero_point) * scale``, ``x`` of any shape and float dtype.

    The gradient passes where nothing is clamped. NaN stays NaN.

    Raises:
        UnsupportedError: torch.func.functionalize or forward-mode AD is at work, which take no gradients of this kind.
    """
    given = rounding.gate.apply(x), scale, zero_point, rounding
    transform = None if torch.compiler.is_compiling() else torch._C._functorch.peek_interpreter_stack()
    if transform is None:
        rounded: Tensor = _StraightThrough.apply(*given)  # type: ignore[no-untyped-call]
        return rounded
    if transform.key() in _WITHOUT_RULE:
        raise no_transform(f"torch.func's {transform.key().name}")
    both: tuple[Tensor, Tensor] = _UnderTransforms.apply(*given)  # type: ignore[no-untyped-call]
    return both[0]


def no_transform(which: str) -> UnsupportedError:
    """What fake quantization under a transform raises that its gradients have no rule for."""
    return UnsupportedError(
        f"Fake quantization under {which}.",
        why="Its gradient is no derivative of what it computes, and has no rule there.",
        remedy="Train with loss.backward(), or transform what convert makes of the model.",
    )


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero_point: Tensor, rounding: Rounding) -> Tensor:
        steps = steps_of(x, scale, zero_point, rounding)
        ctx.save_for_backward(steps.passed)
        return steps.value(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (passed,) = ctx.saved_tensors
        return torch.where(passed, grads[0], 0.0), None, None, None


class _UnderTransforms(torch.autograd.Function):
    """The same in the form that torch.func and torch.vmap take."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, scale: Tensor, zero_point: Tensor, rounding: Rounding) -> tuple[Tensor, Tensor]:
        steps = steps_of(x, scale, zero_point, rounding)
        return steps.value(x.dtype), steps.passed

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1])

    backward = _StraightThrough.backward


def _one_sided(x: Tensor, gate: Gate) -> Tensor:
    if gate == (0.0, math.inf):
        return F.relu(x)
    bound = gate.lo if math.isfinite(gate.lo) else gate.hi
    blocked = x <= bound if math.isfinite(gate.lo) else x >= bound
    return torch.where(blocked, torch.full_like(x, bound), x)
