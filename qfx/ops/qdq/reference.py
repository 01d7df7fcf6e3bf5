"""quantize and dequantize as graph ops: what the QDQ level is made of."""

from __future__ import annotations

import torch
from torch import Tensor

from qfx.ir.types import QDType
from qfx.ops import arithmetic


def quantize(
    x: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    *,
    dtype: str,
    axis: int | None = None,
    quant_min: int | None = None,
    quant_max: int | None = None,
) -> Tensor:
    """Integers ``clamp(rint(x / scale) + zero_point)`` in the storage of ``dtype``; NaN becomes the zero point.

    Args:
        x: float32, any shape.
        scale: float32, 0-d, or 1-d along ``axis``.
        zero_point: Integers shaped as ``scale``.
        dtype: A quantized dtype's name: ``"quint8"``, ``"qint8"`` or ``"qint32"``.
        axis: The channel dim, or None when per tensor.
        quant_min: Lowest integer used; the dtype's when None.
        quant_max: Highest integer used; the dtype's when None.

    Raises:
        QuantizationError: ``dtype`` names no quantized dtype.
    """
    kind = QDType.parse(dtype)
    if x.is_meta:  # the arithmetic would only find the shape, in many steps
        return torch.empty_like(x, dtype=kind.storage)
    low = kind.qmin if quant_min is None else quant_min
    high = kind.qmax if quant_max is None else quant_max
    return arithmetic.quantize(x, scale, zero_point, low, high, axis).to(kind.storage)


def dequantize(q: Tensor, scale: Tensor, zero_point: Tensor, *, axis: int | None = None) -> Tensor:
    """float32 ``(q - zero_point) * scale``; arguments as in :func:`quantize`."""
    if q.is_meta:
        return torch.empty_like(q, dtype=torch.float32)
    return arithmetic.dequantize(q, scale, zero_point, axis)
