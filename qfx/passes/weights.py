"""Weights and biases to integers: observe, correct the bias for the rounding, keep every accumulator within s32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qfx.errors import ConversionError
from qfx.ir.types import QDType, QParams
from qfx.ops import arithmetic

ACC_LIMIT = 2**31 - 1
_BIAS_LIMIT = 2**30


@dataclass(frozen=True)
class QuantizedWeight:
    """int8 ``values`` in ``qmin..qmax``, float32 ``scale``, int64 ``zero_point``; ``axis`` as in QParams."""

    values: Tensor
    scale: Tensor
    zero_point: Tensor
    axis: int | None
    qmin: int = -128
    qmax: int = 127

    def dequantized(self) -> Tensor:
        return arithmetic.dequantize(self.values, self.scale, self.zero_point, self.axis)


def quantize_weight(weight: Tensor, observer: Any) -> QuantizedWeight:
    """Quantize ``weight`` with the qparams that a fresh ``observer`` finds for it.

    Raises:
        ConversionError: The observer's dtype is not qint8.
    """
    _require_qint8(QDType.parse(observer.dtype))
    observer(weight.detach())
    return quantize_weight_by(weight, observer.qparams())


def quantize_weight_by(weight: Tensor, qparams: QParams) -> QuantizedWeight:
    """Quantize ``weight`` with ``qparams``.

    Raises:
        ConversionError: Their dtype is not qint8, or a weight is not finite.
    """
    _require_qint8(qparams.dtype)
    if not bool(weight.isfinite().all()):
        raise ConversionError(
            "A weight holds a NaN or an infinity, for which no integer stands.",
            remedy="Repair the float model, or keep the layer float: give it the qconfig None.",
        )
    scale = torch.tensor(qparams.scale, dtype=torch.float32)
    zero_point = torch.tensor(qparams.zero_point, dtype=torch.int64)
    return _quantized(weight, scale, zero_point, qparams.axis, qparams.qmin, qparams.qmax)


def _require_qint8(kind: QDType) -> None:
    if kind is not QDType.qint8:
        raise ConversionError(
            f"Weights must be qint8, but the weight observer's dtype is {kind!r}.",
            remedy="Use a weight observer with dtype=qfx.qint8, or set the qconfig to None to keep the layer float.",
        )


def _quantized(
    weight: Tensor, scale: Tensor, zero_point: Tensor, axis: int | None, qmin: int, qmax: int
) -> QuantizedWeight:
    values = arithmetic.quantize(weight, scale, zero_point, qmin, qmax, axis).to(torch.int8)
    return QuantizedWeight(values, scale, zero_point, axis, qmin, qmax)


def bias_shift(weight: Tensor, rounded: QuantizedWeight, input_mean: Tensor, groups: int) -> Tensor:
    """What rounding the weights takes from the mean output: ``sum (w - dequantize(quantize(w))) * E[x]``, ``[O]``.

    The sum runs over the kernel window and the input channels of each output's group (one-pass bias correction:
    Nagel et al., "Data-Free Quantization through Weight Equalization and Bias Correction", 2019, section 4.2, with
    means from calibration).

    Args:
        weight: ``[O, C / groups, *kernel]``.
        rounded: The same, quantized.
        input_mean: ``[C]``.
        groups: Channel groups.
    """
    error = (weight.double() - rounded.dequantized().double()).flatten(2).sum(-1) if weight.dim() > 2 else None
    if error is None:
        error = weight.double() - rounded.dequantized().double()
    per_group = error.reshape(groups, -1, error.shape[1])
    mean = input_mean.double().reshape(groups, 1, -1)
    return (per_group * mean).sum(-1).reshape(-1)


def widen_for_bias(weight: Tensor, rounded: QuantizedWeight, bias: Tensor, x_scale: Tensor) -> QuantizedWeight:
    """``rounded`` with a wider scale in the channels whose bias would not fit s32 in ``x_scale * weight_scale``."""
    scale = rounded.scale.expand(bias.shape[0]) if rounded.scale.dim() == 0 else rounded.scale
    smallest = (bias.double().abs() / (x_scale.double() * _BIAS_LIMIT)).float()
    narrow = smallest > scale
    if not bool(narrow.any()):
        return rounded
    wide = torch.maximum(scale, smallest)
    zero_point = rounded.zero_point.expand(bias.shape[0]).clone()
    again = _quantized(weight, wide, zero_point, 0, -128, 127)
    values = torch.where(narrow.reshape(-1, *[1] * (weight.dim() - 1)), again.values, rounded.values)
    return QuantizedWeight(values, wide, zero_point, 0)


def quantize_bias(bias: Tensor, x_scale: Tensor, weight_scale: Tensor) -> tuple[Tensor, Tensor]:
    """s32 bias in units of ``x_scale * weight_scale`` and those units as float32 ``[O]``."""
    scale = x_scale.double() * weight_scale.double()
    values = torch.round(bias.double() / scale).to(torch.int64)
    return values.to(torch.int32), scale.float().expand(bias.shape[0]).clone()


def check_finite(bias: Tensor, where: str, source: str | None) -> None:
    """Raise unless every bias is finite.

    Raises:
        ConversionError: NaN or infinity.
    """
    if not bool(bias.isfinite().all()):
        raise ConversionError(
            f"The bias of {where} is not finite.",
            where=where,
            source=source,
            why="NaN or infinity in the float model's parameters or in the statistics of a folded batch norm.",
            remedy="Repair the float model, or keep this layer float: give it the qconfig None.",
        )


def reach(rounded: QuantizedWeight, bias: Tensor | None) -> int:
    """The largest ``bias + sum |x - zx| |w - zw|`` of a channel for any input."""
    zero = arithmetic.expand_channel(rounded.zero_point, rounded.axis, rounded.values.dim())
    sums = (rounded.values.to(torch.int64) - zero).abs().reshape(rounded.values.shape[0], -1).sum(1) * 255
    return int((sums if bias is None else sums + bias.to(torch.int64).abs()).max())


def check_accumulator(rounded: QuantizedWeight, bias: Tensor | None, where: str, source: str | None) -> None:
    """Raise unless ``bias + sum |x - zx| |w - zw|`` fits s32 for every input.

    Raises:
        ConversionError: A channel's accumulator could wrap.
    """
    largest = reach(rounded, bias)
    if largest > ACC_LIMIT:
        raise ConversionError(
            f"The products of {where or 'a layer'} can add up to {largest}, more than a 32-bit sum holds.",
            where=where,
            source=source,
            why=f"a reduction over {rounded.values[0].numel()} weights is too long for exact int8 arithmetic",
            remedy="Keep this layer float: give it the qconfig None.",
        )
