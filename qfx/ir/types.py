"""What flows between the stages: quantized dtypes, schemes, quantization parameters, integer arrays."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

import torch

from qfx.errors import QuantizationError, shown


def _name(given: Any) -> str:
    """The last part of the name of a dtype or scheme, torch's or of ours; nothing for anything else."""
    named = isinstance(given, (str, torch.dtype, torch.qscheme, enum.Enum))
    return str(given).rsplit(".", 1)[-1] if named else ""


class QDType(enum.Enum):
    """A quantized dtype: integers ``qmin..qmax`` stored in a plain torch integer dtype."""

    quint8 = (0, 255, torch.uint8)
    """0..255 in one byte."""
    qint8 = (-128, 127, torch.int8)
    """-128..127 in one byte."""
    qint32 = (-(2**31), 2**31 - 1, torch.int32)
    """-2**31..2**31 - 1 in four bytes."""

    def __init__(self, qmin: int, qmax: int, storage: torch.dtype) -> None:
        self.qmin, self.qmax = qmin, qmax
        self.is_complex = self.is_floating_point = False  # as a torch.dtype tells whoever wants derivatives
        self.storage = storage
        """The torch dtype that holds the integers."""

    __hash__ = object.__hash__  # there is one of each; enum's own, in Python, takes its time

    def __repr__(self) -> str:
        return f"qfx.{self.name}"

    @classmethod
    def parse(cls, dtype: Any) -> QDType:
        """``dtype`` as a QDType: a member, its name, a storage dtype, or a foreign dtype of the same name."""
        if isinstance(dtype, cls):
            return dtype
        for member in cls:
            if dtype is member.storage or _name(dtype) == member.name:
                return member
        raise QuantizationError(
            f"{shown(dtype)} is not a quantized dtype.", remedy=f"Use one of {', '.join(map(repr, cls))}."
        )


class QScheme(enum.Enum):
    """How values map to integers: one scale or one a channel; any zero point or a symmetric range."""

    per_tensor_affine = (False, False)
    """One scale, any zero point."""
    per_tensor_symmetric = (False, True)
    """One scale, a range symmetric around zero."""
    per_channel_affine = (True, False)
    """A scale and zero point a channel."""
    per_channel_symmetric = (True, True)
    """A scale a channel, ranges symmetric around zero."""

    @property
    def per_channel(self) -> bool:
        return bool(self.value[0])

    @property
    def symmetric(self) -> bool:
        return bool(self.value[1])

    def __repr__(self) -> str:
        return f"qfx.{self.name}"

    @classmethod
    def parse(cls, scheme: Any) -> QScheme:
        """``scheme`` as a QScheme: a member, its name, or a foreign scheme of the same name."""
        if isinstance(scheme, cls):
            return scheme
        name = _name(scheme)
        if name in cls.__members__:
            return cls[name]
        raise QuantizationError(
            f"{shown(scheme)} is not a quantization scheme.", remedy=f"Use one of {', '.join(map(repr, cls))}."
        )


dtype = QDType
qscheme = QScheme


@dataclass(frozen=True)
class QParams:
    """``real = (q - zero_point) * scale``; tuples along ``axis`` when per channel.

    Attributes:
        scale: Positive finite float32 values.
        zero_point: Integers within the dtype's range.
        dtype: The quantized dtype.
        axis: The channel dimension, or None when per tensor.
        quant_min: Lowest integer used (the dtype's, unless the range is reduced).
        quant_max: Highest integer used.
    """

    scale: float | tuple[float, ...]
    zero_point: int | tuple[int, ...]
    dtype: QDType
    axis: int | None = None
    quant_min: int | None = None
    quant_max: int | None = None

    @property
    def qmin(self) -> int:
        return self.dtype.qmin if self.quant_min is None else self.quant_min

    @property
    def qmax(self) -> int:
        return self.dtype.qmax if self.quant_max is None else self.quant_max

    def per_tensor(self) -> tuple[float, int]:
        """The one scale and zero point.

        Raises:
            QuantizationError: There is one a channel.
        """
        if isinstance(self.scale, tuple) or isinstance(self.zero_point, tuple):
            raise QuantizationError(
                f"One scale and zero point are needed, got {self}.", remedy="Use a per-tensor observer."
            )
        return self.scale, self.zero_point


@dataclass(frozen=True, eq=False)
class QArray:
    """Integers with their quantization parameters: the operand of an exact integer reference.

    Attributes:
        values: Storage integers (uint8, int8 or int32), logical layout (NCHW).
        scale: float32 tensor, 0-d or 1-d along ``axis``.
        zero_point: int64 tensor shaped as ``scale``.
        axis: The channel dimension, or None when per tensor.
    """

    values: torch.Tensor
    scale: torch.Tensor
    zero_point: torch.Tensor
    axis: int | None = None


@dataclass(frozen=True)
class ValueType:
    """What an edge of an Int8 graph carries: ``"code"`` (8-bit integers with ``qparams``), ``"float"`` (float32),
    ``"s64"``, ``"s32"`` or ``"bool"`` (a tensor of them), ``"dim"`` (a Python int), ``"constant"`` (a parameter), or
    ``"other"`` (anything only torch handles)."""

    kind: str
    qparams: QParams | None = None


INTEGER_KINDS = {torch.int64: "s64", torch.int32: "s32", torch.bool: "bool"}
"""The kinds of a :class:`ValueType` that are integers or truth values, by their dtype; the runtime's names of them."""

RUNTIME_DTYPES = {"code": "u8", "float": "f32", "other": "f32", **{kind: kind for kind in INTEGER_KINDS.values()}}
"""The runtime's name of what a program takes and gives, by the kind of the :class:`ValueType`; of other values it takes
what they are in float32."""


def code_shift(qparams: QParams) -> int:
    """What is added to an integer of ``qparams`` to get the code that programs hold."""
    return 128 if qparams.dtype is QDType.qint8 else 0
