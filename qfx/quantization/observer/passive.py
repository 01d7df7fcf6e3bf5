"""Observers that compute no range: fixed qparams, placeholders, recording, no operation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor

from qfx.arguments import checked
from qfx.errors import CalibrationError, QConfigError
from qfx.ir.types import QDType, QParams, QScheme
from qfx.memory import require_values
from qfx.quantization.observer.base import (
    APART,
    FLOAT32_EPS,
    Observer,
    State,
    as_observable,
    quantized_range,
    range_width,
)

INPUT_GROUPS = (32, 64, 128)
"""How many neighbours of a row of inputs may share a scale."""


def _first(states: Sequence[State]) -> State:
    return states[0]


class FixedQParamsObserver(Observer):
    """Quantization parameters known beforehand, as for sigmoid (1/256, 0) and tanh (2/256, 128).

    State: ``scale`` float32 ``[1]`` and ``zero_point`` int64 ``[1]``.

    Args:
        scale: Positive and finite.
        zero_point: Within ``quant_min..quant_max``.
        dtype: A quantized dtype.
        qscheme: A per-tensor scheme.
        quant_min: Lowest integer; the dtype's when left out.
        quant_max: Highest integer; the dtype's when left out.
    """

    scale: Tensor
    zero_point: Tensor
    merged_state = staticmethod(_first)

    @checked
    def __init__(
        self,
        scale: float,
        zero_point: int,
        dtype: Any = QDType.quint8,
        qscheme: Any = QScheme.per_tensor_affine,
        *,
        quant_min: int | None = None,
        quant_max: int | None = None,
    ) -> None:
        parsed = QDType.parse(dtype)
        super().__init__(parsed)
        self.qscheme = QScheme.parse(qscheme)
        self.quant_min, self.quant_max = quantized_range(parsed, quant_min, quant_max, reduce_range=False)
        stored = torch.tensor([scale], dtype=torch.float32)
        if self.qscheme.per_channel or not bool((stored > 0) & stored.isfinite()):
            raise QConfigError(
                f"{type(self).__name__} takes one positive finite scale per tensor, not {scale!r}.",
                remedy="Give a number like 1 / 256, and a per-tensor qscheme.",
            )
        if not self.quant_min <= zero_point <= self.quant_max:
            raise QConfigError(
                f"zero_point={zero_point} lies outside {self.quant_min}..{self.quant_max}.",
                remedy="Give the integer that stands for 0.0, within that range.",
            )
        self.register_buffer("scale", stored)
        self.register_buffer("zero_point", torch.tensor([zero_point], dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        """``x`` itself; nothing is recorded."""
        return x

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        """The fixed ``(scale, zero_point)``."""
        return self.scale, self.zero_point


class FixedOrObserved(FixedQParamsObserver):
    """Fixed parameters that give way to observed ones where the data use less than an eighth of their range.

    State: as :class:`FixedQParamsObserver`, and that of ``observed``, which sees the finite values.

    Args:
        scale: The fixed scale.
        zero_point: The fixed zero point.
        dtype: A quantized dtype.
        observed: Finds the range that the data need.
    """

    def __init__(self, scale: float, zero_point: int, dtype: Any, observed: Observer) -> None:
        super().__init__(scale, zero_point, dtype)
        self.observed = observed

    def forward(self, x: Tensor) -> Tensor:
        """Show ``x`` to ``observed`` and return it."""
        seen = as_observable(self, x)
        finite = torch.isfinite(seen)
        self.observed(seen if bool(finite.all()) else seen[finite])
        return x

    def qparams(self) -> QParams:
        """The fixed parameters, or the observed ones. Before data, the fixed ones."""
        fixed = self._fixed()
        try:
            own = self.observed.qparams()
        except CalibrationError:
            return fixed
        return own if range_width(self.observed, own) * APART < range_width(self, fixed) else fixed

    @property
    def gave_way(self) -> bool:
        """Whether the parameters are the observed ones."""
        return self.qparams() != self._fixed()

    def _fixed(self) -> QParams:
        bounds = self.quant_min, self.quant_max
        assert isinstance(self.dtype, QDType)
        return QParams(float(self.scale), int(self.zero_point), self.dtype, None, *bounds)

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        """``(scale, zero_point)`` of :meth:`qparams`."""
        scale, zero_point = self.qparams().per_tensor()
        return torch.tensor([scale], dtype=torch.float32), torch.tensor([zero_point])


class _WithoutQParams(Observer):
    """An observer that passes configuration on, or records, and has no range."""

    merged_state = staticmethod(_first)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` itself."""
        return x

    def calculate_qparams(self) -> NoReturn:
        """Raise CalibrationError: there is nothing to calculate from."""
        raise CalibrationError(
            f"{type(self).__name__} computes no quantization parameters.",
            where=self.label,
            source=self.source,
            remedy="Use an observer that does, such as MinMaxObserver or HistogramObserver.",
        )


class PlaceholderObserver(_WithoutQParams):
    """Carries a dtype (and, for dynamic quantization, a range and scheme) to convert; observes nothing.

    Args:
        dtype: A quantized dtype or a float dtype.
        custom_op_name: Kept for the field's callers; no meaning here.
        quant_min: Lowest integer at run time; the dtype's when None.
        quant_max: Highest integer at run time.
        qscheme: Scheme at run time.
        eps: Smallest scale at run time.
        is_dynamic: The value is quantized at run time, from its own range.
        per_row: Then each row of its last dim is, from the row's range.
        group_size: Then each group of so many neighbours of a row is, symmetrically: 32, 64 or 128.

    Raises:
        QConfigError: Another ``group_size``.
    """

    @checked
    def __init__(
        self,
        dtype: Any = torch.float32,
        custom_op_name: str = "",
        *,
        quant_min: int | None = None,
        quant_max: int | None = None,
        qscheme: Any = QScheme.per_tensor_affine,
        eps: float = FLOAT32_EPS,
        is_dynamic: bool = False,
        per_row: bool = False,
        group_size: int | None = None,
    ) -> None:
        if group_size not in (None, *INPUT_GROUPS):
            raise QConfigError(
                f"group_size={group_size} is no number of inputs that share a scale.",
                remedy=f"Use one of {INPUT_GROUPS}, or None.",
            )
        super().__init__(dtype)
        self.custom_op = custom_op_name
        self.quant_min, self.quant_max, self.eps = quant_min, quant_max, eps
        self.is_dynamic, self.per_row, self.group_size = is_dynamic, per_row, group_size
        self.qscheme = QScheme.parse(qscheme)

    def extra_repr(self) -> str:
        return f"{self.dtype!r}, is_dynamic={self.is_dynamic}"


class NoopObserver(_WithoutQParams):
    """Passes its dtype on, as for float16 weights; observes nothing.

    Args:
        dtype: A quantized dtype or a float dtype.
        custom_op_name: Kept for the field's callers; no meaning here.
    """

    @checked
    def __init__(self, dtype: Any = torch.float16, custom_op_name: str = "") -> None:
        super().__init__(dtype)
        self.custom_op = custom_op_name


class RecordingObserver(_WithoutQParams):
    """Keeps a copy of every input, for debugging.

    Args:
        dtype: A quantized dtype or a float dtype.
    """

    @checked
    def __init__(self, dtype: Any = QDType.quint8) -> None:
        super().__init__(dtype)
        self.tensor_val: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        """Keep a copy of ``x`` and return it.

        Raises:
            InputError: It is no tensor.
        """
        if not isinstance(x, Tensor):
            as_observable(self, x)
        require_values(x, "What is to be recorded")
        self.tensor_val.append(x.detach().clone())
        return x

    def get_tensor_value(self) -> list[Tensor]:
        """All inputs so far, in order."""
        return self.tensor_val
