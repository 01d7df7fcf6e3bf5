"""The numbers: quantize, dequantize, requantize, and the multipliers, as exact tensor arithmetic.

Every other place that computes one of these (C++ kernels, interpreters, lowering) equals this file bit for bit.
Tensors are plain torch integers and floats; torch's elementwise arithmetic rounds each operation on its own.
"""

from __future__ import annotations

import torch
from torch import Tensor


def expand_channel(vector: Tensor, axis: int | None, ndim: int) -> Tensor:
    """``vector`` (0-d, or 1-d along ``axis``) shaped to broadcast against ``ndim`` dimensions."""
    if axis is None or vector.dim() == 0:
        return vector
    shape = [1] * ndim
    shape[axis] = -1
    return vector.reshape(shape)


def quantize(x: Tensor, scale: Tensor, zero_point: Tensor, qmin: int, qmax: int, axis: int | None = None) -> Tensor:
    """``clamp(rint(x / scale) + zero_point, qmin, qmax)``, int64; NaN becomes the zero point.

    Evaluated in float64, where the quotient of two float32 numbers is exact enough to be rounded right at every tie.
    """
    scale = expand_channel(scale, axis, x.dim()).double()
    zero_point = expand_channel(zero_point, axis, x.dim()).double()
    q = torch.round(x.detach().double() / scale).nan_to_num(nan=0.0) + zero_point
    return q.clamp(qmin, qmax).to(torch.int64)


def dequantize(q: Tensor, scale: Tensor, zero_point: Tensor, axis: int | None = None) -> Tensor:
    """``float32(q - zero_point) * scale`` in float32."""
    scale = expand_channel(scale, axis, q.dim())
    zero_point = expand_channel(zero_point, axis, q.dim())
    return (q.to(torch.int64) - zero_point).float() * scale.float()


def requantize(v: Tensor, zero_point: int, qmin: int, qmax: int) -> Tensor:
    """``clamp(rint(v) + zero_point, qmin, qmax)`` for float32 ``v``, round half to even; int64."""
    return (torch.round(v.clamp(-65536.0, 65536.0)).to(torch.int64) + zero_point).clamp(qmin, qmax)


def multiplier(s_x: Tensor, s_w: Tensor, s_y: Tensor, factor: float = 1.0) -> Tensor:
    """``float32(s_x * s_w * factor / s_y)`` evaluated in float64 from float32 scales."""
    return (s_x.double() * s_w.double() * factor / s_y.double()).float()


def ratio(s_x: Tensor, s_y: Tensor) -> Tensor:
    """``float32(s_x / s_y)`` evaluated in float64 from float32 scales."""
    return (s_x.double() / s_y.double()).float()


def affine_qparams(low: float, high: float, qmin: int, qmax: int) -> tuple[float, int]:
    """Scale and zero point that map ``[min(low, 0), max(high, 0)]`` to ``qmin..qmax`` with an exact zero.

    The scale is rounded to float32; a zero-width range gets scale 1.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    scale = torch.tensor((high - low) / (qmax - qmin), dtype=torch.float32)
    if float(scale) == 0.0:
        scale = torch.tensor(1.0)
    zero_point = int(torch.round(torch.tensor(qmin - low / float(scale), dtype=torch.float64)))
    return float(scale), max(qmin, min(qmax, zero_point))
