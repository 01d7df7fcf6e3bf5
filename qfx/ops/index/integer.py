"""Ops on integers as the runtime computes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from qfx.ir.types import QArray, QParams
from qfx.ops.epilogue import Operand, quantized, value


def embedding(indices: Tensor, weight: Operand, *, padding_idx: int | None = None, out: QParams | None) -> Tensor:
    """Rows as they are; of integers ``(q - zero_point) * scale`` in float32, each operation rounded."""
    if not isinstance(weight, QArray):
        return quantized(weight[indices], out)
    scale, zero_point = (
        t[indices].unsqueeze(-1) if weight.axis is not None else t for t in (weight.scale, weight.zero_point)
    )
    return quantized((weight.values[indices].to(torch.int64) - zero_point).float() * scale, out)


def as_is(fn: Callable[..., Tensor], *args: Any, out: QParams | None, **kwargs: Any) -> Tensor:
    """``fn`` of integers, of truth values, and of what quantized operands stand for."""
    given = [value(arg) if isinstance(arg, QArray) else arg for arg in args]
    return quantized(fn(*given, **kwargs), out)
