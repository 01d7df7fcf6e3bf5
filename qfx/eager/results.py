"""The parameters of a result, from what a caller gives."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from qfx.errors import InputError, QuantizationError
from qfx.ir.types import QDType, QParams
from qfx.tensor import QTensor
from qfx.tensor.qtensor import check_qparams


def require_qtensor(what: str, value: Any) -> QTensor:
    """``value``, if it is a QTensor.

    Raises:
        InputError: It is not; ``what`` is the function that needs it.
    """
    if isinstance(value, QTensor):
        return value
    kind = f"tensor of {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
    raise InputError(
        f"{what} got a {kind}, where a QTensor belongs.",
        remedy="Quantize it first, with qfx.quantize_per_tensor or QuantStub; on floats call torch.nn.functional.",
    )


def out_qparams(input: QTensor, scale: Any, zero_point: Any, dtype: Any = None) -> QParams:
    """Scale, zero point and dtype of a result: the input's where None is given.

    Raises:
        QuantizationError: They are not valid together, or the input is per channel.
    """
    given = input.qparams
    if given.axis is not None:
        raise QuantizationError(
            f"The input is quantized per channel along {given.axis}.",
            why="Activations are quint8 or qint8 with one scale; channels of their own are for weights.",
            remedy="Requantize: qfx.quantize_per_tensor(x.dequantize(), scale, zero_point, qfx.quint8).",
        )
    kind = given.dtype if dtype is None else QDType.parse(dtype)
    if scale is None or zero_point is None:
        own = given.per_tensor()
        scale, zero_point = own[0] if scale is None else scale, own[1] if zero_point is None else zero_point
    made = QParams(float(scale), int(zero_point), kind)
    check_qparams(made, ())
    return made
