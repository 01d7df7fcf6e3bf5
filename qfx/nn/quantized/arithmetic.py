"""Arithmetic of QTensors with the result's scale and zero point given; with numbers, where they follow exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from qfx.arguments import explained
from qfx.eager import run_op
from qfx.eager.results import out_qparams, require_qtensor
from qfx.errors import InputError
from qfx.ir.types import QParams
from qfx.ops import arithmetic
from qfx.ops.compute.reference import Activation
from qfx.tensor import QTensor
from qfx.tensor.qtensor import check_qparams, wrap

_RELU: Activation = ("clamp", 0.0, None)


@explained
def add(x: QTensor, y: QTensor, scale: float, zero_point: int, dtype: Any = None) -> QTensor:
    """``x + y`` with broadcasting; the operands may have different parameters. ``dtype`` is the first's when None."""
    return _two("add", x, y, scale, zero_point, dtype)


@explained
def add_relu(x: QTensor, y: QTensor, scale: float, zero_point: int, dtype: Any = None) -> QTensor:
    """``relu(x + y)`` rounded once; as :func:`add`."""
    return _two("add", x, y, scale, zero_point, dtype, _RELU)


@explained
def sub(x: QTensor, y: QTensor, scale: float, zero_point: int, dtype: Any = None) -> QTensor:
    """``x - y``; as :func:`add`."""
    return _two("sub", x, y, scale, zero_point, dtype)


@explained
def mul(x: QTensor, y: QTensor, scale: float, zero_point: int, dtype: Any = None) -> QTensor:
    """``x * y``; as :func:`add`."""
    return _two("mul", x, y, scale, zero_point, dtype)


@explained
def mul_relu(x: QTensor, y: QTensor, scale: float, zero_point: int, dtype: Any = None) -> QTensor:
    """``relu(x * y)`` rounded once; as :func:`add`."""
    return _two("mul", x, y, scale, zero_point, dtype, _RELU)


@explained
def matmul(x: QTensor, y: QTensor, scale: float, zero_point: int, dtype: Any = None) -> QTensor:
    """``x @ y``, batched with broadcasting, computed in float32 between integers."""
    require_qtensor("matmul", x)
    return run_op("matmul", x, require_qtensor("matmul", y), out=out_qparams(x, scale, zero_point, dtype))


def _two(name: str, x: Any, y: Any, scale: Any, zero_point: Any, dtype: Any, activation: Activation = None) -> QTensor:
    operands = require_qtensor(name, x), require_qtensor(name, y)
    return run_op(name, *operands, out=out_qparams(operands[0], scale, zero_point, dtype), activation=activation)


@explained
def cat(tensors: Sequence[QTensor], dim: int = 0, scale: float | None = None, zero_point: int | None = None) -> QTensor:
    """Concatenation along ``dim``; tensors of other parameters than the result's are requantized.

    Args:
        tensors: At least one.
        dim: An existing dim.
        scale: The result's; the first tensor's when None.
        zero_point: The result's; the first tensor's when None.
    """
    items = [require_qtensor("cat", item) for item in tensors]
    if not items:
        raise InputError("cat got no tensors.", remedy="Pass at least one QTensor.")
    return run_op("cat", items, dim=dim, out=out_qparams(items[0], scale, zero_point))


@explained
def batch_norm(
    input: QTensor, factor: QTensor, shift: Tensor | None, scale: float, zero_point: int, dtype: Any = None
) -> QTensor:
    """``input * factor[c] + shift[c]`` along dim 1: a batch norm in evaluation.

    Args:
        input: ``[N, C, ...]``.
        factor: qint8 ``[C]``, per tensor or per channel.
        shift: float32 ``[C]`` or None.
        scale: The result's.
        zero_point: The result's.
        dtype: The result's; the input's when None.
    """
    require_qtensor("batch_norm", input)
    return run_op("channel_affine", input, factor, shift, out=out_qparams(input, scale, zero_point, dtype))


@explained
def layer_norm(
    input: QTensor, normalized_shape: Sequence[int], weight: Tensor | None, bias: Tensor | None, eps: float,
    scale: float, zero_point: int,
) -> QTensor:  # fmt: skip
    """Zero mean, unit variance over the trailing ``normalized_shape`` dims, then ``* weight + bias`` (both float32)."""
    out = out_qparams(require_qtensor("layer_norm", input), scale, zero_point)
    return run_op("layer_norm", input, weight, bias, normalized_shape=tuple(normalized_shape), eps=eps, out=out)


@explained
def group_norm(
    input: QTensor, num_groups: int, weight: Tensor | None, bias: Tensor | None, eps: float, scale: float,
    zero_point: int,
) -> QTensor:  # fmt: skip
    """Zero mean, unit variance per image and group of channels, then ``* weight[c] + bias[c]`` (both float32)."""
    out = out_qparams(require_qtensor("group_norm", input), scale, zero_point)
    return run_op("group_norm", input, weight, bias, groups=num_groups, eps=eps, out=out)


@explained
def instance_norm(
    input: QTensor, weight: Tensor | None, bias: Tensor | None, eps: float, scale: float, zero_point: int
) -> QTensor:
    """Zero mean, unit variance per image and channel, then ``* weight[c] + bias[c]`` (both float32)."""
    out = out_qparams(require_qtensor("instance_norm", input), scale, zero_point)
    return run_op("instance_norm", input, weight, bias, eps=eps, out=out)


# ---------------------------------------------------------------- numbers


@explained
def add_scalar(x: QTensor, value: float) -> QTensor:
    """``x + value``, the value rounded to a multiple of the scale; the zero point moves, and the integers stay.

    Where it would leave the dtype's range, the scale grows instead so that both the lowest and the highest value of
    ``x`` and zero are representable, and the integers are rounded anew (the parameters of torch's own quantized
    ``add_scalar``).
    """
    scale, zero_point = require_qtensor("add_scalar", x).qparams.per_tensor()
    unit = torch.tensor(scale, dtype=torch.float32, device="cpu")
    step = float(unit)
    amount, zero = torch.tensor(value, dtype=torch.float32, device="cpu"), torch.tensor(0, device="cpu")
    steps = int(arithmetic.quantize(amount, unit, zero, -(2**31), 2**31 - 1))
    moved, low, high = zero_point - steps, x.dtype.qmin, x.dtype.qmax
    if low <= moved <= high:
        return wrap(x.int_repr(), QParams(scale, moved, x.dtype), x.severed)
    reach = high - moved if moved < low else moved - low
    out = QParams(reach / (high - low) * step, low if moved < low else high, x.dtype)
    return run_op("add_scalar", x, value=steps * step, out=out)


@explained
def mul_scalar(x: QTensor, value: float) -> QTensor:
    """``x * value``, exactly: the scale is multiplied by ``|value|``; a negative value also reflects the integers."""
    scale, zero_point = require_qtensor("mul_scalar", x).qparams.per_tensor()
    codes, low, high = x.int_repr(), x.dtype.qmin, x.dtype.qmax
    if value == 0.0:
        return wrap(codes.zero_(), QParams(1.0, 0, x.dtype), x.severed)
    if value < 0.0:
        codes, zero_point = (low + high) - codes, low + high - zero_point
    out = QParams(abs(value) * scale, zero_point, x.dtype)
    check_qparams(out, tuple(codes.shape))
    return wrap(codes, out, x.severed)
