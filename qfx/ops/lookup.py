"""256-entry tables: any function of one value, exact between two quantized tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qfx.errors import QuantizationError
from qfx.ir.types import QDType, QParams
from qfx.ops import arithmetic

_CODES = 256
_SHIFT = {QDType.quint8: 0, QDType.qint8: 128}


def code_table(function: Callable[[Any], Any], x: QParams, y: QParams) -> Tensor:
    """``table[code of x] = code of quantize(function(value of x))``, uint8 ``[256]``.

    Codes are storage bytes: ``q`` for quint8, ``q + 128`` for qint8. The value of a code is exact in float64, the
    function is evaluated in float64. NaN (a point where the function is undefined) becomes the zero point, so the
    real 0; infinities saturate.

    Raises:
        QuantizationError: ``x`` or ``y`` is per channel or not 8 bits wide.
    """
    shift = _shift(y)
    real = torch.from_numpy(_evaluate(function, x))
    scale, zero_point = torch.tensor(y.scale, dtype=torch.float32), torch.tensor(y.zero_point)
    q = arithmetic.quantize(real, scale, zero_point, y.qmin, y.qmax)
    return (q + shift).to(torch.uint8)


def value_table(function: Callable[[Any], Any], x: QParams) -> Tensor:
    """``table[code of x] = float32(function(value of x))``, float32 ``[256]``; NaN and infinities stay."""
    return torch.from_numpy(_evaluate(function, x)).to(torch.float32)


def requantize_table(x: QParams, y: QParams) -> Tensor:
    """The table that moves codes of ``x`` to ``y``'s scale and zero point, uint8 ``[256]``."""
    return code_table(_identity, x, y)


def _evaluate(function: Callable[[Any], Any], x: QParams) -> Any:
    zero = _shift(x) + np.asarray(x.zero_point, dtype=np.float64)
    scale = np.asarray(x.scale, dtype=np.float32).astype(np.float64)
    with np.errstate(all="ignore"):
        return np.asarray(function((np.arange(_CODES) - zero) * scale), dtype=np.float64)


def _identity(x: Any) -> Any:
    return x


def _shift(qparams: QParams) -> int:
    if qparams.axis is not None or qparams.dtype not in _SHIFT:
        raise QuantizationError(
            f"A lookup table needs per-tensor 8-bit qparams, got {qparams}.",
            remedy="Use quint8 or qint8 activations with one scale.",
        )
    return _SHIFT[qparams.dtype]
