"""What stubs become: the way into the quantized part of a model, and out of it."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from qfx.ir.types import QDType, QParams
from qfx.nn.quantized.output import QuantizedModule, observed_qparams, require_codes
from qfx.tensor import QTensor
from qfx.tensor.build import number, quantize, whole
from qfx.tensor.uncompiled import uncompiled


class Quantize(QuantizedModule):
    """Float values to a QTensor: ``clamp(rint(x / scale) + zero_point)``.

    Args:
        scale: Positive and finite.
        zero_point: The integer that stands for 0.0.
        dtype: ``qfx.quint8`` or ``qfx.qint8``.
    """

    observed = True

    def __init__(self, scale: Any = 1.0, zero_point: Any = 0, dtype: Any = QDType.quint8) -> None:
        super().__init__()
        self.set_qparams(QParams(number(scale, "scale"), whole(zero_point), QDType.parse(dtype)))

    @classmethod
    def from_float(cls, mod: nn.Module) -> Quantize:
        """The Quantize of an observed QuantStub.

        Raises:
            ConversionError: ``mod`` has no observer.
            CalibrationError: The observer saw no data.
        """
        made = cls()
        made.set_qparams(observed_qparams(cls, mod))
        return made.train(mod.training)

    @property
    def dtype(self) -> QDType:
        """The dtype of results."""
        return self.qparams.dtype

    def forward(self, X: Tensor) -> QTensor:
        """``X``, float32 of any shape, quantized."""
        return quantize(X, self.qparams)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, dtype={self.dtype!r}"


class DeQuantize(nn.Module):
    """A QTensor to float32 values: ``(q - zero_point) * scale``."""

    observed = False

    @classmethod
    def from_float(cls, mod: nn.Module) -> DeQuantize:
        """The DeQuantize of a DeQuantStub."""
        return cls().train(mod.training)

    @uncompiled
    def forward(self, Xq: QTensor) -> Tensor:
        """``Xq`` as float32, the same shape.

        Raises:
            InputError: ``Xq`` is no QTensor.
        """
        return require_codes(self, Xq).dequantize()
