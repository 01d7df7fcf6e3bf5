"""What every integer reference begins and ends with: operands without their zero point, and requantized results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from qfx.errors import QuantizationError
from qfx.ir.types import QArray, QParams
from qfx.ops import arithmetic
from qfx.ops.compute.reference import Activation

Operand: TypeAlias = QArray | Tensor
"""A quantized operand, or a float32 one."""


def integers(x: QArray) -> Tensor:
    """``q - zero_point`` as float64, in which every sum of products below 2**53 is exact."""
    zero_point = arithmetic.expand_channel(x.zero_point, x.axis, x.values.dim())
    return (x.values.to(torch.int64) - zero_point).double()


def value(x: Operand) -> Tensor:
    """``x`` as float32: dequantized when it is quantized."""
    return arithmetic.dequantize(x.values, x.scale, x.zero_point, x.axis) if isinstance(x, QArray) else x


def out_scale(out: QParams) -> Tensor:
    """The float32 scale of a result, 0-d.

    Raises:
        QuantizationError: ``out`` is per channel.
    """
    if out.axis is not None:
        raise QuantizationError(
            f"An activation needs one scale, got {out}.", remedy="Use a per-tensor activation observer."
        )
    return torch.tensor(out.scale, dtype=torch.float32)


def quantized(y: Tensor, out: QParams | None) -> Tensor:
    """Float ``y`` as integers of ``out``, or as it is when ``out`` is None."""
    if out is None:
        return y
    q = arithmetic.quantize(y, out_scale(out), torch.tensor(out.zero_point), out.qmin, out.qmax)
    return q.to(out.dtype.storage)


def clamp_codes(activation: Activation, out: QParams) -> tuple[int, int]:
    """The integers between which the clamp epilogue holds a result: its bounds quantized, open ends the dtype's.

    Quantization is monotone, so this equals quantizing the clamped value. Where low exceeds high, high wins, as in
    torch.
    """
    if activation is None:
        return out.qmin, out.qmax
    _, low, high = activation
    bounds = torch.tensor([-torch.inf if low is None else low, torch.inf if high is None else high])
    lo, hi = arithmetic.quantize(bounds, out_scale(out), torch.tensor(out.zero_point), out.qmin, out.qmax).tolist()
    return min(lo, hi), hi


def requantized(v: Tensor, out: QParams, activation: Activation = None) -> Tensor:
    """``v``, float32 in units of ``out``'s scale, as integers in ``out``'s storage after the clamp epilogue."""
    lo, hi = clamp_codes(activation, out)
    assert isinstance(out.zero_point, int)
    return arithmetic.requantize(v, out.zero_point, lo, hi).to(out.dtype.storage)


def through_float64(fn: Callable[..., Tensor], *args: Any, out: QParams | None, **kwargs: Any) -> Tensor:
    """``fn`` on dequantized operands, evaluated in float64 and rounded to float32 once; then quantized to ``out``."""
    real = [value(a).double() if isinstance(a, (QArray, Tensor)) else a for a in args]
    return quantized(fn(*real, **kwargs).float(), out)
