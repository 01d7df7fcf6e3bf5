"""Exact integer references of the ops that only move elements: integers go where the float reference sends values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from qfx.errors import QuantizationError
from qfx.ir.types import QArray, QParams
from qfx.ops import arithmetic
from qfx.ops.shape import reference as shape


def moved(x: QArray, y: Tensor, out: QParams | None) -> Tensor:
    """``y``, integers of ``x``'s parameters, in ``x``'s storage, or dequantized when ``out`` is None.

    ``y`` may be float: minus infinity, the maximum of no element, becomes the lowest integer.

    Raises:
        QuantizationError: ``out`` is not what ``x`` has.
    """
    limits = torch.iinfo(x.values.dtype)
    y = y.clamp(limits.min, limits.max).to(x.values.dtype)
    if out is None:
        return arithmetic.dequantize(y, x.scale, x.zero_point)
    same = float(x.scale) == float(torch.tensor(out.scale, dtype=torch.float32)) and int(x.zero_point) == out.zero_point
    if not same or x.values.dtype != out.dtype.storage:
        raise QuantizationError(
            f"An op that moves values got operands of scale {float(x.scale)}, zero point {int(x.zero_point)} "
            f"for a result of {out}.",
            remedy="Requantize the operand first.",
        )
    return y


def move(fn: Callable[..., Tensor], x: QArray, *args: Any, out: QParams | None, **kwargs: Any) -> Tensor:
    """``fn`` applied to the integers of ``x``."""
    return moved(x, fn(x.values, *args, **kwargs), out)


def join(fn: Callable[..., Tensor], tensors: Sequence[QArray], *, out: QParams | None, **kwargs: Any) -> Tensor:
    """``fn`` applied to the integers of several operands, which all have the result's parameters."""
    if out is None:
        real = [arithmetic.dequantize(t.values, t.scale, t.zero_point) for t in tensors]
        return fn(real, **kwargs)
    return fn([moved(t, t.values, out) for t in tensors], **kwargs)


def pad(x: QArray, *, pad: Sequence[int], mode: str, value: float | None, out: QParams | None) -> Tensor:
    """Padding with ``value`` quantized by ``x``'s parameters, or with elements of ``x``."""
    if mode != "constant":
        return moved(x, shape.pad(x.values.double(), pad=pad, mode=mode, value=None), out)
    limits = torch.iinfo(x.values.dtype)
    low, high = (limits.min, limits.max) if out is None else (out.qmin, out.qmax)
    fill = arithmetic.quantize(torch.tensor(value or 0.0), x.scale, x.zero_point, low, high)
    return moved(x, shape.pad(x.values, pad=pad, mode=mode, value=int(fill)), out)
