"""From float tensors to quantized ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from qfx.arguments import explained
from qfx.errors import InputError, QuantizationError, shown
from qfx.ir.types import QDType, QParams
from qfx.memory import is_plain, is_recorded_by_modes, require_memory, require_values
from qfx.tensor.convert import to_codes
from qfx.tensor.gradient import severs
from qfx.tensor.qtensor import QTensor, check_qparams, wrap
from qfx.tensor.uncompiled import uncompiled

is_fake: Any = torch._subclasses.fake_tensor.is_fake


@uncompiled
@explained
def quantize_per_tensor(input: Tensor, scale: float | Tensor, zero_point: int | Tensor, dtype: Any) -> QTensor:
    """``clamp(rint(input / scale) + zero_point)`` in the integers of ``dtype``: exact, half to even; NaN gives 0.0.

    Args:
        input: float32 of any shape, on the CPU.
        scale: Positive and finite; counts as float32.
        zero_point: The integer that stands for 0.0.
        dtype: ``qfx.quint8``, ``qfx.qint8`` or ``qfx.qint32``.

    Raises:
        InputError: ``input`` is not a float32 CPU tensor.
        QuantizationError: Scale, zero point or dtype is not valid.
    """
    return quantize(input, QParams(number(scale, "scale"), whole(zero_point), QDType.parse(dtype)))


@uncompiled
@explained
def quantize_per_channel(
    input: Tensor, scales: Tensor | Sequence[float], zero_points: Tensor | Sequence[int], axis: int, dtype: Any
) -> QTensor:
    """Each slice along ``axis`` quantized as :func:`quantize_per_tensor` does with its own scale and zero point.

    Args:
        input: float32 of any shape with a dim ``axis``, on the CPU.
        scales: One a channel.
        zero_points: One a channel.
        axis: The channel dim; negative counts from the end.
        dtype: ``qfx.quint8``, ``qfx.qint8`` or ``qfx.qint32``.

    Raises:
        InputError: ``input`` is not a float32 CPU tensor.
        QuantizationError: Wrong number of scales or zero points, or one of them, the axis or the dtype is not valid.
    """
    check_float(input)
    if input.is_meta:
        raise InputError("A tensor without data is to be quantized per channel.", remedy="Pass one with data.")
    if isinstance(axis, bool) or not isinstance(axis, int):
        raise QuantizationError(f"Channel axis {shown(axis)} is no int.", remedy="Pass the index of a dim.")
    axis = axis + input.dim() if -input.dim() <= axis < 0 else axis
    step = tuple(number(scale, "scale") for scale in _items(scales, "scales"))
    zero = tuple(map(whole, _items(zero_points, "zero_points")))
    return quantize(input, QParams(step, zero, QDType.parse(dtype), axis))


def _items(values: Any, name: str) -> tuple[Any, ...]:
    """The numbers of a tensor, array or sequence, one a channel."""
    try:
        return tuple(values)
    except (TypeError, ValueError, RuntimeError, NotImplementedError) as error:
        raise QuantizationError(
            f"{name} is {shown(values)}, not one number a channel.", remedy="Pass a 1-d tensor or a list of numbers."
        ) from error


@uncompiled
def quantize(input: Tensor, qparams: QParams) -> QTensor:
    """``input`` with ``qparams``; as :func:`quantize_per_tensor`."""
    check_float(input)
    check_qparams(qparams, tuple(input.shape))
    return wrap(to_codes(input, qparams), qparams, severs(input))


def check_float(input: Any) -> None:
    """Raise unless ``input`` is a float32 tensor on the CPU.

    Raises:
        InputError: It is not.
    """
    if not isinstance(input, Tensor):
        raise InputError(f"A {type(input).__name__} is to be quantized.", remedy="Pass a float32 tensor.")
    if isinstance(input, QTensor):
        raise InputError("A QTensor is to be quantized again.", remedy="Pass its dequantize(), or a float tensor.")
    if is_plain(input) and input.dtype is torch.float32:
        require_memory(input, "What is to be quantized")
        return
    require_values(input, "What is to be quantized")
    if is_fake(input) and not is_recorded_by_modes():
        raise InputError("A tensor without data is to be quantized.", remedy="Pass one with data.")
    if input.dtype is not torch.float32:
        raise InputError(f"A {input.dtype} tensor is to be quantized.", remedy="Pass float32: call .float() first.")
    if input.device.type not in ("cpu", "meta"):
        raise InputError(
            f"A tensor on {input.device} is to be quantized.", why="qfx runs on the CPU.", remedy="Pass it .cpu()."
        )


def number(value: Any, what: str) -> float:
    """A number, or the one number of a tensor.

    Raises:
        QuantizationError: It is none.
    """
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise QuantizationError(f"{shown(value)} is no {what}.", remedy="Pass one number.") from error


def whole(value: Any) -> int:
    """A whole number, or the one whole number of a tensor.

    Raises:
        QuantizationError: It is none.
    """
    if isinstance(value, int) or (isinstance(value, Tensor) and value.numel() == 1 and not value.is_floating_point()):
        return int(value)
    found = number(value, "zero point")
    if not found.is_integer():
        raise QuantizationError(f"Zero point {shown(value)} is no integer.", remedy="Pass an int.")
    return int(found)
