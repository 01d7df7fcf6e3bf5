"""The functions of ``torch.nn.functional`` that are defined on QTensors, under qfx's name.

Each takes a float tensor, and is then torch's own function; or a QTensor (quint8 or qint8, per tensor), and computes on
integers. ``torch.nn.functional`` itself does the same when it is given a QTensor: what is here adds the result's scale
and zero point where they may differ from the input's.

All raise :class:`qfx.errors.QuantizationError` for a QTensor that is per channel or qint32, and
:class:`qfx.errors.UnsupportedError` for arguments that integers do not define, such as ``return_indices``.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from qfx.eager import run_op
from qfx.eager.results import out_qparams
from qfx.errors import InputError
from qfx.tensor import QTensor

__all__ = [
    "adaptive_avg_pool2d",
    "avg_pool2d",
    "elu",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "interpolate",
    "max_pool2d",
    "relu",
    "relu_",
    "upsample",
    "upsample_bilinear",
    "upsample_nearest",
]


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """``max(q, zero_point)`` with the input's parameters; a new tensor unless ``inplace``."""
    return F.relu(input, inplace)


def relu_(input: Tensor) -> Tensor:
    """:func:`relu` in the input's own memory; returns it."""
    return F.relu_(input)


def elu(
    input: Tensor,
    alpha: float = 1.0,
    inplace: bool = False,
    *,
    scale: float | None = None,
    zero_point: int | None = None,
) -> Tensor:
    """``x`` where positive, else ``alpha * (exp(x) - 1)``, exactly rounded; with the input's parameters by default.

    Args:
        input: float32, or a QTensor.
        alpha: The limit of negative results, negated.
        inplace: Write the result into ``input``.
        scale: The result's, for a QTensor.
        zero_point: The result's, for a QTensor.
    """
    return _to_qparams("elu", input, inplace, scale, zero_point, alpha=float(alpha))


def max_pool2d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    """Maximum of integers over the part of each window inside ``[N, C, H, W]``, with the input's parameters."""
    pool: Any = F.max_pool2d
    pooled: Tensor = pool(input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)
    return pooled


def adaptive_avg_pool2d(input: Tensor, output_size: Any) -> Tensor:
    """Mean over torch's adaptive windows, rounded once, with the input's parameters; None keeps a length."""
    return F.adaptive_avg_pool2d(input, output_size)


def avg_pool2d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """Mean over windows of ``[N, C, H, W]``, rounded once, with the input's parameters."""
    return F.avg_pool2d(input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def interpolate(
    input: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Tensor:
    """Resampling of ``[N, C, *spatial]``: ``"nearest"`` moves integers, the linear modes round once."""
    return F.interpolate(input, size, scale_factor, mode, align_corners)


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """``relu6(x + 3) / 6``; of a QTensor with scale 1/256 and the lowest integer as zero point."""
    return F.hardsigmoid(input, inplace)


def hardswish(
    input: Tensor, inplace: bool = False, *, scale: float | None = None, zero_point: int | None = None
) -> Tensor:
    """``x * relu6(x + 3) / 6``, exactly rounded; with the input's parameters unless others are given."""
    return _to_qparams("hardswish", input, inplace, scale, zero_point)


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """``x`` clamped to ``min_val..max_val``, with the input's parameters."""
    return F.hardtanh(input, min_val, max_val, inplace)


def upsample(
    input: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Tensor:
    """:func:`interpolate` by its old name."""
    return interpolate(input, size, scale_factor, mode, align_corners)


def upsample_nearest(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """:func:`interpolate` with ``mode="nearest"`` by its old name."""
    return interpolate(input, size, scale_factor, "nearest")


def upsample_bilinear(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """:func:`interpolate` with ``mode="bilinear", align_corners=True`` by its old name."""
    return interpolate(input, size, scale_factor, "bilinear", True)


def _to_qparams(name: str, x: Tensor, inplace: bool, scale: Any, zero_point: Any, **attributes: float) -> Tensor:
    """The row ``name`` with the given parameters; torch's function of that name for a float tensor."""
    if isinstance(x, QTensor):
        made: QTensor = run_op(name, x, out=out_qparams(x, scale, zero_point), **attributes)
        return x.copy_(made) if inplace else made
    if scale is not None or zero_point is not None:
        raise InputError(
            f"{name} got a scale or a zero point for a float result.",
            why="Only a QTensor has them.",
            remedy="Leave them out, or pass a QTensor.",
        )
    result: Tensor = getattr(F, name)(x, inplace=inplace, **attributes)
    return result
