"""The constants of a call as a graph holds them: int8 weights, s32 biases, float32 vectors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from qfx.eager.call import Activation, Call
from qfx.errors import InputError, QuantizationError
from qfx.ir.types import QDType
from qfx.passes import weights
from qfx.passes.weights import QuantizedWeight
from qfx.tensor import QTensor


def parameters_of(call: Call, constants: dict[str, Tensor]) -> dict[str, QuantizedWeight | Tensor]:
    """By parameter: a weight and its bias as integers, anything else as float32.

    Raises:
        InputError: A bias or factor is not a float tensor.
        QuantizationError: A weight is not qint8, or its channels are not along dim 0.
        ConversionError: A bias that is not finite, or sums that do not fit 32 bits.
    """
    if not call.op.weights:
        return {role: _float(call, role, value) for role, value in constants.items()}
    if call.op.looks_up:
        raise InputError(
            f"{call.name} looks rows of a table up, which is no arithmetic of QTensors.",
            remedy="Use qfx.nn.quantized.Embedding or EmbeddingBag.",
        )
    operands: dict[str, Any] = dict(call.operands)
    x: Activation = operands["x"]
    weight = _weight(call, constants["weight"])
    given = constants.get("bias")
    if given is None:
        weights.check_accumulator(weight, None, call.name, None)
        return {"weight": weight}
    bias, x_scale = _float(call, "bias", given), torch.tensor(x.qparams.scale, dtype=torch.float32)
    if bias.shape != weight.values.shape[:1]:
        raise InputError(
            f"{call.name} got a bias of shape {tuple(bias.shape)} for {weight.values.shape[0]} outputs.",
            remedy="Pass one value an output channel.",
        )
    weights.check_finite(bias, call.name, None)
    weight = weights.widen_for_bias(weight.dequantized(), weight, bias, x_scale)
    values, scale = weights.quantize_bias(bias, x_scale, weight.scale)
    weights.check_accumulator(weight, values, call.name, None)
    return {"weight": weight, "bias": QuantizedWeight(values, scale, torch.zeros_like(values, dtype=torch.int64), 0)}


def _weight(call: Call, weight: Any) -> QuantizedWeight:
    if not isinstance(weight, QTensor):
        raise InputError(
            f"{call.name} got a weight of {getattr(weight, 'dtype', type(weight).__name__)}, where a QTensor belongs.",
            remedy="Quantize it first: qfx.quantize_per_channel(weight, scales, zero_points, 0, qfx.qint8).",
        )
    if weight.dtype is not QDType.qint8 or weight.qparams.axis not in (None, 0):
        raise QuantizationError(
            f"{call.name} got a weight of {weight.dtype!r}, axis {weight.qparams.axis}.",
            why="Weights are qint8, per tensor or per output channel (axis 0).",
            remedy="Quantize the float weight with dtype qfx.qint8, and axis 0 if per channel.",
        )
    array = weight.array
    return QuantizedWeight(array.values.clone(), array.scale, array.zero_point, array.axis)


def _float(call: Call, role: str, value: Any) -> Tensor:
    if not isinstance(value, Tensor) or isinstance(value, QTensor) or not value.dtype.is_floating_point:
        raise InputError(
            f"{call.name} got {role} of {getattr(value, 'dtype', type(value).__name__)}.",
            remedy="Pass a float32 tensor: it is quantized as the operands' scales demand.",
        )
    return value.detach().to(torch.float32).clone()
