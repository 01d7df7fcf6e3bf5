"""Exact integer references of the ops that multiply and add.

``acc`` is exact; everything after it is float32 arithmetic, each operation rounded on its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from qfx.errors import QuantizationError
from qfx.ir.types import QArray, QParams
from qfx.ops import arithmetic
from qfx.ops.compute import reference as compute
from qfx.ops.compute.reference import Activation, activate
from qfx.ops.epilogue import Operand, integers, out_scale, quantized, requantized, through_float64, value
from qfx.ops.qdq.decode import StoredWeight
from qfx.ops.qdq.dynamic import dynamic_qparams, group_codes, in_groups


def conv(
    x: QArray,
    weight: QArray,
    bias: QArray | None = None,
    residual: QArray | None = None,
    *,
    stride: Sequence[int],
    padding: Sequence[Sequence[int]],
    dilation: Sequence[int],
    groups: int,
    activation: Activation = None,
    out: QParams | None,
) -> Tensor:
    """Convolution of uint8 or int8 ``x`` with int8 ``weight`` (per channel along dim 0, or per tensor).

    ``bias`` is int32 in ``s_x * s_w``. Padding contributes zeros, so ``x``'s zero point.
    """
    acc = compute.conv(integers(x), integers(weight), stride=stride, padding=padding, dilation=dilation, groups=groups)
    return _finish(acc, x, weight, bias, channel=-len(stride) - 1, residual=residual, activation=activation, out=out)


def linear(
    x: QArray,
    weight: QArray,
    bias: QArray | None = None,
    residual: QArray | None = None,
    *,
    activation: Activation = None,
    out: QParams | None,
) -> Tensor:
    """Linear layer over the last dim of uint8 or int8 ``x`` with int8 ``weight``; operands as :func:`conv`."""
    acc = compute.linear(integers(x), integers(weight))
    return _finish(acc, x, weight, bias, channel=-1, residual=residual, activation=activation, out=out)


def channel_affine(
    x: QArray,
    weight: QArray,
    bias: QArray | None = None,
    *,
    activation: Activation = None,
    out: QParams | None,
) -> Tensor:
    """``x * weight[c] + bias[c]`` along dim 1; operands as :func:`conv`, ``weight`` of shape ``[C]``."""
    acc = compute.channel_affine(integers(x), integers(weight))
    channel = 1 - x.values.dim()
    return _finish(acc, x, weight, bias, channel=channel, residual=None, activation=activation, out=out)


def _finish(
    acc: Tensor,
    x: QArray,
    weight: QArray,
    bias: QArray | None,
    *,
    channel: int,
    residual: QArray | None,
    activation: Activation,
    out: QParams | None,
) -> Tensor:
    if weight.axis not in (None, 0):
        raise QuantizationError(
            f"Weights quantize along their output channels, dim 0; got axis {weight.axis}.",
            remedy="Give the weight observer ch_axis=0, or use a per-tensor one.",
        )
    if bias is not None:
        acc = acc + _along(bias.values.double(), channel)
    if out is None:
        y = acc.float() * _along((x.scale.double() * weight.scale.double()).float(), channel)
        return activate(y if residual is None else y + value(residual), activation)
    v = acc.float() * _along(arithmetic.multiplier(x.scale, weight.scale, out_scale(out)), channel)
    if residual is not None:
        v = v + integers(residual).float() * arithmetic.ratio(residual.scale, out_scale(out))
    return requantized(v, out, activation)


def _along(vector: Tensor, channel: int) -> Tensor:
    return vector if vector.dim() == 0 else vector.reshape(-1, *[1] * (-channel - 1))


def _signed_sum(sign: float, x: Operand, y: Operand, activation: Activation, out: QParams | None) -> Tensor:
    if out is None or not (isinstance(x, QArray) and isinstance(y, QArray)):
        float_op = compute.add if sign > 0 else compute.sub
        return through_float64(partial(float_op, activation=activation), x, y, out=out)
    a = integers(x).float() * arithmetic.ratio(x.scale, out_scale(out))
    b = integers(y).float() * arithmetic.ratio(y.scale, out_scale(out))
    return requantized(a + sign * b, out, activation)


def add(x: Operand, y: Operand, *, activation: Activation = None, out: QParams | None) -> Tensor:
    """``x + y`` with broadcasting. A float operand, or a float result, makes it float32 arithmetic."""
    return _signed_sum(1.0, x, y, activation, out)


def sub(x: Operand, y: Operand, *, activation: Activation = None, out: QParams | None) -> Tensor:
    """``x - y``; as :func:`add`."""
    return _signed_sum(-1.0, x, y, activation, out)


def mul(x: Operand, y: Operand, *, activation: Activation = None, out: QParams | None) -> Tensor:
    """``x * y``; the product of the integers is exact. Float operands and results as :func:`add`."""
    if out is None or not (isinstance(x, QArray) and isinstance(y, QArray)):
        return through_float64(partial(compute.mul, activation=activation), x, y, out=out)
    v = (integers(x) * integers(y)).float() * arithmetic.multiplier(x.scale, y.scale, out_scale(out))
    return requantized(v, out, activation)


def matmul(
    x: Operand, y: Operand, *, factor: float = 1.0, activation: Activation = None, out: QParams | None
) -> Tensor:
    """``x @ y * factor`` of integers per tensor; the sum of products is exact.

    A float operand makes it float32 arithmetic, with products added in the order of the reduced dim.
    """
    if not (isinstance(x, QArray) and isinstance(y, QArray)):
        product = _products_in_order(value(x), value(y))
        scaled = product if factor == 1.0 else (product.double() * factor).float()
        return quantized(activate(scaled, activation), out)
    acc = torch.matmul(integers(x), integers(y)).float()
    if out is None:
        return activate(acc * arithmetic.multiplier(x.scale, y.scale, torch.tensor(1.0), factor), activation)
    return requantized(acc * arithmetic.multiplier(x.scale, y.scale, out_scale(out), factor), out, activation)


def _products_in_order(a: Tensor, b: Tensor) -> Tensor:
    left, right = (a.unsqueeze(0) if a.dim() == 1 else a), (b.unsqueeze(1) if b.dim() == 1 else b)
    total = torch.zeros_like(torch.matmul(left, right))
    for k in range(left.shape[-1]):
        total = total + left[..., k : k + 1] * right[..., k : k + 1, :]
    total = total.squeeze(-1) if b.dim() == 1 else total
    return total.squeeze(-1 if b.dim() == 1 else -2) if a.dim() == 1 else total


def linear_in_order(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Linear layer in float32, each operation rounded on its own: products in the order of the features, then the bias.

    Args:
        x: float32 ``[..., C]``.
        weight: float32 ``[O, C]``: what :func:`qfx.ops.qdq.decode.decode_weight` gives.
        bias: float32 ``[O]``.
    """
    y = _products_in_order(x, weight.t())
    return y if bias is None else y + bias


def linear_dynamic(
    x: Tensor, weight: QArray, bias: Tensor | None = None, *, reduce_range: bool = False, per_row: bool = False
) -> Tensor:
    """Linear layer with an input quantized by its own range at run time; float32 in and out.

    The range of all of ``x``, or of each row of its last dim, zero included, gives scale and zero point over ``0..127``
    with ``reduce_range``, else ``0..255``. ``y = float(acc) * (s_x * s_w[o]) + bias[o]``, each operation rounded to
    float32. NaN or an infinity makes NaN of all that the scale is for: the result, or the row of it.

    Args:
        x: float32 ``[..., C]``.
        weight: int8 ``[O, C]``, symmetric.
        bias: float32 ``[O]``.
        reduce_range: Leave one bit unused.
        per_row: Each row has a scale of its own.
    """
    scale, zero_point = dynamic_qparams(x, reduce_range=reduce_range, per_row=per_row)
    codes = arithmetic.quantize(x, scale, zero_point, 0, 127 if reduce_range else 255)
    acc = compute.linear(integers(QArray(codes, scale, zero_point)), integers(weight))
    y = acc.float() * (scale * weight.scale)
    return y if bias is None else y + bias


def linear_dynamic_grouped(x: Tensor, weight: StoredWeight, bias: Tensor | None = None, *, group_size: int) -> Tensor:
    """Linear layer with an input quantized by groups of each row at run time; float32 in and out.

    Of each group, ``p = float(acc) * (s_x * s_w[o])``; these are added group after group, then the bias, each operation
    rounded to float32. ``acc`` is exact, over codes of :func:`qfx.ops.qdq.dynamic.group_codes` and weights less their
    zero points. NaN or an infinity makes NaN of its row.

    Args:
        x: float32 ``[..., C]``.
        weight: 8 or 4 bits ``[O, C]``, whose groups are whole groups of ``x``, or whole rows.
        bias: float32 ``[O]``.
        group_size: Neighbours of a row of ``x`` that share a scale; the last ones may be fewer.
    """
    assert weight.scale is not None
    codes, scales = group_codes(in_groups(x, group_size))
    weights = in_groups(weight.integers().flatten(1), group_size)
    of_weights = weight.scale.float().repeat_interleave(-(-weights.shape[1] // weight.scale.shape[1]), dim=1)
    total: Tensor | None = None
    for g in range(weights.shape[1]):
        acc = compute.linear(codes[..., g, :].double(), weights[:, g].double())
        product = acc.float() * (scales[..., g, :] * of_weights[:, g])
        total = product if total is None else total + product
    assert total is not None
    return total if bias is None else total + bias
