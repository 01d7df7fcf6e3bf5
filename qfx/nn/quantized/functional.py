"""Functions on QTensors that take the scale and zero point of their result.

Every ``input`` is a QTensor, quint8 or qint8, per tensor. All raise :class:`qfx.errors.InputError` for a float tensor
or shapes that do not fit, and :class:`qfx.errors.QuantizationError` for a QTensor that is per channel or qint32, for a
weight that is not qint8, and for parameters that are not valid. Integers are those of graph mode: sums exact in 32
bits, then rounded once, half to even.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from qfx.arguments import explained
from qfx.eager import run_op
from qfx.eager.results import out_qparams, require_qtensor
from qfx.errors import InputError
from qfx.ir.types import QDType
from qfx.nn.quantized.arithmetic import (
    add,
    add_relu,
    add_scalar,
    batch_norm,
    cat,
    group_norm,
    instance_norm,
    layer_norm,
    matmul,
    mul,
    mul_relu,
    mul_scalar,
    sub,
)
from qfx.tensor import QTensor
from qfx.tensor.uncompiled import uncompiled

Sizes = int | Sequence[int]
"""One for all dimensions, or one a dimension."""
Factors = float | Sequence[float]

__all__ = [
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "add",
    "add_relu",
    "add_scalar",
    "avg_pool2d",
    "avg_pool3d",
    "batch_norm",
    "cat",
    "celu",
    "clamp",
    "conv1d",
    "conv2d",
    "conv3d",
    "elu",
    "group_norm",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "instance_norm",
    "interpolate",
    "layer_norm",
    "leaky_relu",
    "linear",
    "matmul",
    "max_pool1d",
    "max_pool2d",
    "mul",
    "mul_relu",
    "mul_scalar",
    "relu",
    "sub",
    "threshold",
    "upsample",
    "upsample_bilinear",
    "upsample_nearest",
]

# ---------------------------------------------------------------- layers


def _conv(
    spatial: int,
    input: QTensor,
    weight: QTensor,
    bias: Tensor | None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    scale: float = 1.0,
    zero_point: int = 0,
    dtype: Any = QDType.quint8,
) -> QTensor:
    require_qtensor(f"conv{spatial}d", input)
    out = out_qparams(input, scale, zero_point, dtype)
    amounts = tuple((amount, amount) for amount in _tuple(padding, spatial))
    if padding_mode != "zeros":
        flat = tuple(amount for pair in reversed(amounts) for amount in pair)
        input = run_op("pad", input, pad=flat, mode=padding_mode, value=None)
        amounts = ((0, 0),) * spatial
    return run_op(
        "conv", input, weight, bias, out=out,
        stride=_tuple(stride, spatial), padding=amounts, dilation=_tuple(dilation, spatial), groups=groups,
    )  # fmt: skip


def _tuple(value: Any, length: int) -> tuple[int, ...]:
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * length
    if len(values) == 1:
        values *= length
    if len(values) != length or not all(isinstance(v, int) for v in values):
        raise InputError(f"{value!r} is given for {length} dims.", remedy="Pass one int, or one a dim.")
    return values


@explained
def conv1d(
    input: QTensor, weight: QTensor, bias: Tensor | None, stride: Sizes = 1, padding: Sizes = 0, dilation: Sizes = 1,
    groups: int = 1, padding_mode: str = "zeros", scale: float = 1.0, zero_point: int = 0, dtype: Any = QDType.quint8,
) -> QTensor:  # fmt: skip
    """Convolution over one dim.

    Args:
        input: ``[N, C, L]`` or ``[C, L]``.
        weight: qint8 ``[O, C / groups, K]``, per tensor or per channel along axis 0.
        bias: float32 ``[O]`` or None; it is rounded to ``s_input * s_weight``.
        stride: Step of the window.
        padding: Zeros (or as ``padding_mode`` says) on both sides.
        dilation: Distance of the window's elements.
        groups: Channel groups.
        padding_mode: ``"zeros"``, ``"reflect"``, ``"replicate"`` or ``"circular"``.
        scale: The result's.
        zero_point: The result's.
        dtype: The result's: ``qfx.quint8`` or ``qfx.qint8``.
    """
    return _conv(1, input, weight, bias, stride, padding, dilation, groups, padding_mode, scale, zero_point, dtype)


@explained
def conv2d(
    input: QTensor, weight: QTensor, bias: Tensor | None, stride: Sizes = 1, padding: Sizes = 0, dilation: Sizes = 1,
    groups: int = 1, padding_mode: str = "zeros", scale: float = 1.0, zero_point: int = 0, dtype: Any = QDType.quint8,
) -> QTensor:  # fmt: skip
    """Convolution over two dims of ``[N, C, H, W]``; arguments as :func:`conv1d`, by dim or one int for both."""
    return _conv(2, input, weight, bias, stride, padding, dilation, groups, padding_mode, scale, zero_point, dtype)


@explained
def conv3d(
    input: QTensor, weight: QTensor, bias: Tensor | None, stride: Sizes = 1, padding: Sizes = 0, dilation: Sizes = 1,
    groups: int = 1, padding_mode: str = "zeros", scale: float = 1.0, zero_point: int = 0, dtype: Any = QDType.quint8,
) -> QTensor:  # fmt: skip
    """Convolution over three dims of ``[N, C, D, H, W]``; arguments as :func:`conv1d`, by dim or one int for all."""
    return _conv(3, input, weight, bias, stride, padding, dilation, groups, padding_mode, scale, zero_point, dtype)


@explained
def linear(
    input: QTensor,
    weight: QTensor,
    bias: Tensor | None = None,
    scale: float | None = None,
    zero_point: int | None = None,
) -> QTensor:
    """``input @ weight.T + bias`` over the last dim.

    Args:
        input: ``[..., C]``.
        weight: qint8 ``[O, C]``, per tensor or per channel along axis 0.
        bias: float32 ``[O]`` or None; it is rounded to ``s_input * s_weight``.
        scale: The result's; the input's when None.
        zero_point: The result's; the input's when None.
    """
    require_qtensor("linear", input)
    return run_op("linear", input, weight, bias, out=out_qparams(input, scale, zero_point))


# ---------------------------------------------------------------- windows


@explained
def max_pool1d(
    input: QTensor, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0, dilation: Sizes = 1,
    ceil_mode: bool = False, return_indices: bool = False,
) -> QTensor:  # fmt: skip
    """Maximum over windows of ``[N, C, L]``: exact, padding never wins; ``return_indices`` is refused."""
    return _of(F.max_pool1d, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


@explained
def max_pool2d(
    input: QTensor, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0, dilation: Sizes = 1,
    ceil_mode: bool = False, return_indices: bool = False,
) -> QTensor:  # fmt: skip
    """Maximum over windows of ``[N, C, H, W]``: exact, padding never wins; ``return_indices`` is refused."""
    return _of(F.max_pool2d, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


@explained
def avg_pool2d(
    input: QTensor, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> QTensor:  # fmt: skip
    """Mean over windows of ``[N, C, H, W]``, rounded once, with the input's parameters."""
    return _of(
        F.avg_pool2d, input, kernel_size, stride, padding, bool(ceil_mode), bool(count_include_pad), divisor_override
    )


@explained
def avg_pool3d(
    input: QTensor, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> QTensor:  # fmt: skip
    """Mean over windows of ``[N, C, D, H, W]``, rounded once, with the input's parameters."""
    return _of(
        F.avg_pool3d, input, kernel_size, stride, padding, bool(ceil_mode), bool(count_include_pad), divisor_override
    )


@explained
def adaptive_avg_pool2d(input: QTensor, output_size: Sizes) -> QTensor:
    """Mean over torch's adaptive windows of ``[N, C, H, W]``; None keeps a length."""
    return _of(F.adaptive_avg_pool2d, input, output_size)


@explained
def adaptive_avg_pool3d(input: QTensor, output_size: Sizes) -> QTensor:
    """Mean over torch's adaptive windows of ``[N, C, D, H, W]``; None keeps a length."""
    return _of(F.adaptive_avg_pool3d, input, output_size)


@explained
def interpolate(
    input: QTensor,
    size: Sizes | None = None,
    scale_factor: Factors | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> QTensor:
    """Resampling of ``[N, C, *spatial]``: ``"nearest"`` moves integers, ``"bilinear"`` rounds once."""
    return _of(F.interpolate, input, size, scale_factor, mode, align_corners)


@explained
def upsample(
    input: QTensor,
    size: Sizes | None = None,
    scale_factor: Factors | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> QTensor:
    """:func:`interpolate` by its old name; warns."""
    _warn("upsample", "interpolate")
    return interpolate(input, size, scale_factor, mode, align_corners)


@explained
def upsample_nearest(input: QTensor, size: Sizes | None = None, scale_factor: Factors | None = None) -> QTensor:
    """``interpolate(..., mode="nearest")`` by its old name; warns."""
    _warn("upsample_nearest", 'interpolate(..., mode="nearest")')
    return interpolate(input, size, scale_factor, "nearest")


@explained
def upsample_bilinear(input: QTensor, size: Sizes | None = None, scale_factor: Factors | None = None) -> QTensor:
    """``interpolate(..., mode="bilinear", align_corners=True)`` by its old name; warns."""
    _warn("upsample_bilinear", 'interpolate(..., mode="bilinear", align_corners=True)')
    return interpolate(input, size, scale_factor, "bilinear", True)


def _warn(name: str, instead: str) -> None:
    warnings.warn(
        f"qfx.nn.quantized.functional.{name} is deprecated: call {instead}.", DeprecationWarning, stacklevel=4
    )


def _of(function: Any, input: Any, *args: Any) -> QTensor:
    """torch's function on a QTensor, and on nothing else."""
    made: QTensor = function(require_qtensor(function.__name__, input), *args)
    return made


# ---------------------------------------------------------------- activations


@explained
def relu(input: QTensor, inplace: bool = False) -> QTensor:
    """``max(q, zero_point)`` with the input's parameters."""
    return _of(F.relu, input, inplace)


@explained
def hardtanh(input: QTensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> QTensor:
    """``input`` clamped to ``min_val..max_val``, with its parameters."""
    return _of(F.hardtanh, input, min_val, max_val, inplace)


@explained
def clamp(input: QTensor, min_: float | None, max_: float | None) -> QTensor:
    """``input`` clamped to ``min_..max_``, with its parameters."""
    return _of(torch.clamp, input, min_, max_)


@explained
def threshold(input: QTensor, threshold: float, value: float) -> QTensor:
    """``input`` where greater than ``threshold``, else ``value``, with its parameters."""
    return _of(F.threshold, input, threshold, value)


@explained
def hardsigmoid(input: QTensor, inplace: bool = False) -> QTensor:
    """``relu6(input + 3) / 6`` with scale 1/256 and the lowest integer as zero point."""
    return _of(F.hardsigmoid, input, inplace)


@explained
def hardswish(input: QTensor, scale: float, zero_point: int) -> QTensor:
    """``input * relu6(input + 3) / 6`` with the given parameters, exactly rounded."""
    return _pointwise("hardswish", input, scale, zero_point)


@explained
def elu(input: QTensor, scale: float, zero_point: int, alpha: float = 1.0) -> QTensor:
    """``input`` where positive, else ``alpha * (exp(input) - 1)``, with the given parameters, exactly rounded."""
    return _pointwise("elu", input, scale, zero_point, alpha=float(alpha))


@explained
def celu(input: QTensor, scale: float, zero_point: int, alpha: float = 1.0) -> QTensor:
    """``input`` where positive, else ``alpha * (exp(input / alpha) - 1)``, with the given parameters."""
    return _pointwise("celu", input, scale, zero_point, alpha=float(alpha))


@explained
def leaky_relu(
    input: QTensor,
    negative_slope: float = 0.01,
    inplace: bool = False,
    scale: float | None = None,
    zero_point: int | None = None,
) -> QTensor:
    """``input`` where positive, else ``negative_slope * input``; with the input's parameters by default."""
    made = _pointwise("leaky_relu", input, scale, zero_point, negative_slope=float(negative_slope))
    return input.copy_(made) if inplace else made  # type: ignore[return-value]


def _pointwise(name: str, input: Any, scale: Any, zero_point: Any, **attributes: Any) -> QTensor:
    require_qtensor(name, input)
    return run_op(name, input, out=out_qparams(input, scale, zero_point), **attributes)


for _name in __all__:
    uncompiled(globals()[_name])
