"""Quantization with parameters chosen from the values at hand, as dynamically quantized layers do."""

from __future__ import annotations

import torch
from torch import Tensor

from qfx.ops import arithmetic


def dynamic_qparams(x: Tensor, *, reduce_range: bool, per_row: bool = False) -> tuple[Tensor, Tensor]:
    """Scale (float32) and zero point (int64) that map the range of ``x``, zero included, to 8 bits.

    The same numbers as :func:`qfx.ops.arithmetic.affine_qparams` over ``0..127`` with ``reduce_range``, else
    ``0..255``, in tensor arithmetic: of all of ``x``, 0-d, or with ``per_row`` of each row of its last dim,
    ``[..., 1]``. NaN or an infinity makes the scale NaN, and so all that it scales.
    """
    qmax = 127 if reduce_range else 255
    rows = x if per_row else x.reshape(-1)
    values = torch.cat([rows, x.new_zeros(*rows.shape[:-1], 1)], -1).double()
    low, high = values.amin(-1, keepdim=per_row), values.amax(-1, keepdim=per_row)
    scale = ((high - low) / qmax).float()
    scale = torch.where(scale == 0.0, torch.ones_like(scale), scale)
    scale = torch.where(scale.isfinite(), scale, torch.full_like(scale, torch.nan))
    zero_point = torch.round(-low / scale.double()).nan_to_num(nan=0.0).clamp(0.0, float(qmax))
    return scale, zero_point.to(torch.int64)


def in_groups(x: Tensor, size: int) -> Tensor:
    """``[..., C]`` as ``[..., groups, size]``, the last group filled up with zeros."""
    groups = -(-x.shape[-1] // size)
    filled = torch.nn.functional.pad(x, (0, groups * size - x.shape[-1]))
    return filled.reshape(*x.shape[:-1], groups, size)


def group_codes(groups: Tensor) -> tuple[Tensor, Tensor]:
    """Codes (int64, -128..127) and scales (float32 ``[..., groups, 1]``) of ``[..., groups, size]``.

    ``scale = max |x| / 127`` in float32, 1 where that is 0, and ``code = rint(x / scale)``: 127 at most, but for
    denormal scales. NaN or an infinity makes the scale of its group NaN.
    """
    scale = groups.float().abs().amax(-1, keepdim=True) / 127.0
    scale = torch.where(scale == 0.0, torch.ones_like(scale), scale)
    scale = torch.where(scale.isfinite(), scale, torch.full_like(scale, torch.nan))
    return arithmetic.quantize(groups, scale, torch.zeros_like(scale), -128, 127), scale


def requantize_dynamic(
    x: Tensor, *, reduce_range: bool, per_row: bool = False, group_size: int | None = None
) -> Tensor:
    """``x`` rounded to the 8-bit integers that its own minimum and maximum give, as float32.

    Args:
        x: float32, any shape; with ``per_row`` or ``group_size`` at least one dim.
        reduce_range: Use ``0..127`` instead of ``0..255``.
        per_row: Each row of the last dim has a range of its own; else one holds for all of ``x``.
        group_size: Each group of so many neighbours of a row has a scale of its own, as :func:`group_codes` says,
            whatever else is given; the last one may have fewer.
    """
    if group_size is not None:
        codes, scale = group_codes(in_groups(x, group_size))
        return (codes.float() * scale).flatten(-2)[..., : x.shape[-1]]
    scale, zero_point = dynamic_qparams(x, reduce_range=reduce_range, per_row=per_row)
    q = arithmetic.quantize(x, scale, zero_point, 0, 127 if reduce_range else 255)
    return arithmetic.dequantize(q, scale, zero_point)
