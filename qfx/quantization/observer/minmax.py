"""Observers of the minimum and the maximum: running or moving average, per tensor or per channel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from qfx.arguments import checked
from qfx.errors import CalibrationError, QConfigError
from qfx.ir.types import QDType, QScheme
from qfx.memory import is_watched, unwatched
from qfx.quantization.observer.base import FLOAT32_EPS, ObserverBase, State, as_observable, resize_buffer


def storage_order(x: Tensor) -> Tensor:
    """``x`` with its dimensions permuted to memory order: contiguous, without a copy, for any dense layout.

    Reductions over a channels_last tensor are many times slower than over the same memory seen as contiguous.
    """
    if x.is_contiguous():
        return x
    strides = x.stride()
    return x.permute(sorted(range(x.dim()), key=lambda d: -strides[d]))


def averaged(before: Tensor, new: Tensor, c: float) -> Tensor:
    """``before + c * (new - before)`` in float32; in float64 where the difference leaves float32."""
    moved = before + c * (new - before)
    return torch.where(moved.isfinite(), moved, (before.double() + c * (new.double() - before.double())).float())


def extremes(states: Sequence[State]) -> State:
    """The least minimum and the greatest maximum."""
    return {
        "min_val": torch.stack([s["min_val"] for s in states]).amin(0),
        "max_val": torch.stack([s["max_val"] for s in states]).amax(0),
    }


def mean_extremes(states: Sequence[State]) -> State:
    """The mean of the minima and of the maxima."""
    return {name: torch.stack([s[name].double() for s in states]).mean(0).float() for name in ("min_val", "max_val")}


class MinMaxObserver(ObserverBase):
    """Running minimum and maximum over all data.

    State: ``min_val`` and ``max_val``, float32 scalars; ``inf`` and ``-inf`` before data.

    Raises:
        CalibrationError: NaN or infinity in the data; qparams asked before data.
    """

    min_val: Tensor
    max_val: Tensor
    _resizable: ClassVar[tuple[str, ...]] = ("min_val", "max_val")
    merged_state = staticmethod(extremes)
    united_state = staticmethod(extremes)

    @checked
    def __init__(
        self,
        dtype: Any = QDType.quint8,
        qscheme: Any = QScheme.per_tensor_affine,
        *,
        reduce_range: bool = False,
        quant_min: int | None = None,
        quant_max: int | None = None,
        eps: float = FLOAT32_EPS,
    ) -> None:
        super().__init__(dtype, qscheme, reduce_range=reduce_range, quant_min=quant_min, quant_max=quant_max, eps=eps)
        self.register_buffer("min_val", torch.tensor(math.inf))
        self.register_buffer("max_val", torch.tensor(-math.inf))

    def forward(self, x: Tensor) -> Tensor:
        """Update the statistics with ``x`` (any shape and float dtype; empty is ignored) and return it."""
        values = as_observable(self, x)
        if values.numel() > 0:
            self.observe_extremes(*self._extremes(values))
        return x

    def observe_extremes(self, low: Tensor, high: Tensor) -> None:
        """Update the statistics with the minimum and the maximum of data: scalars, or ``[channels]``."""
        low, high = (t.to(self.min_val.device, torch.float32) for t in (low, high))
        self._check_finite(low, high)
        self._update(*((low, high) if self._unseen() else self._merged(low, high)))

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        """``(scale, zero_point)``, float32 and int64, shape ``[1]``, or ``[channels]`` when per channel."""
        self._require_seen()
        return self.affine(self.min_val.reshape(-1), self.max_val.reshape(-1))

    def reset_min_max_vals(self) -> None:
        """Forget all data."""
        self._update(torch.full_like(self.min_val, math.inf), torch.full_like(self.max_val, -math.inf))

    def _extremes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        low, high = torch.aminmax(storage_order(x))
        return low, high

    def _merged(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        return torch.minimum(self.min_val, low), torch.maximum(self.max_val, high)

    def _unseen(self) -> bool:
        if self.min_val.numel() == 0:
            return True
        if torch.compiler.is_compiling() or not is_watched():
            return bool((self.min_val > self.max_val).any())
        with unwatched():
            return bool((self.min_val > self.max_val).any())

    def _require_seen(self) -> None:
        if torch.compiler.is_compiling() and self.min_val.numel() > 0:  # no branch that depends on values
            torch._assert_async((self.min_val <= self.max_val).all(), f"{type(self).__name__} has seen no data.")
        elif self._unseen():
            raise self.never_ran()

    def _update(self, low: Tensor, high: Tensor) -> None:
        resize_buffer(self, "min_val", low.shape).copy_(low)
        resize_buffer(self, "max_val", high.shape).copy_(high)

    def _check_finite(self, low: Tensor, high: Tensor) -> None:
        lowest, highest = float(low.min()), float(high.max())
        if not (math.isfinite(lowest) and math.isfinite(highest)):
            raise self.not_finite(lowest, highest)

    def extra_repr(self) -> str:
        return f"{self.dtype!r}, {self.qscheme!r}, {self.quant_min}..{self.quant_max}"


class MovingAverageMinMaxObserver(MinMaxObserver):
    """Moving average of the batches' minima and maxima: the first batch sets, then ``v += c * (new - v)``.

    Args:
        averaging_constant: ``c`` above; 1 remembers the last batch only.
    """

    merged_state = staticmethod(mean_extremes)
    united_state = staticmethod(extremes)

    @checked
    def __init__(
        self,
        averaging_constant: float = 0.01,
        dtype: Any = QDType.quint8,
        qscheme: Any = QScheme.per_tensor_affine,
        *,
        reduce_range: bool = False,
        quant_min: int | None = None,
        quant_max: int | None = None,
        eps: float = FLOAT32_EPS,
    ) -> None:
        super().__init__(dtype, qscheme, reduce_range=reduce_range, quant_min=quant_min, quant_max=quant_max, eps=eps)
        self.averaging_constant = averaging_constant

    def _merged(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        c = self.averaging_constant
        return averaged(self.min_val, low, c), averaged(self.max_val, high, c)


class PerChannelMinMaxObserver(MinMaxObserver):
    """Running minimum and maximum of each channel.

    State: ``min_val`` and ``max_val``, float32 ``[channels]``; empty before data.

    Args:
        ch_axis: The channel dimension.
    """

    per_channel: ClassVar[bool] = True

    @checked
    def __init__(
        self,
        ch_axis: int = 0,
        dtype: Any = QDType.quint8,
        qscheme: Any = QScheme.per_channel_affine,
        *,
        reduce_range: bool = False,
        quant_min: int | None = None,
        quant_max: int | None = None,
        eps: float = FLOAT32_EPS,
    ) -> None:
        super().__init__(dtype, qscheme, reduce_range=reduce_range, quant_min=quant_min, quant_max=quant_max, eps=eps)
        self.ch_axis = ch_axis
        self.reset_min_max_vals()

    def reset_min_max_vals(self) -> None:
        """Forget all data, and the number of channels."""
        resize_buffer(self, "min_val", (0,))
        resize_buffer(self, "max_val", (0,))

    def _extremes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if not -x.dim() <= self.ch_axis < x.dim():
            raise QConfigError(
                f"{type(self).__name__} has ch_axis={self.ch_axis}, but met a tensor of {x.dim()} dimensions.",
                where=self.label,
                source=self.source,
                remedy="Set ch_axis to a dimension of the observed tensor.",
            )
        low, high = torch.aminmax(x.movedim(self.ch_axis, 0).flatten(1) if x.dim() > 1 else x[:, None], dim=1)
        return low, high

    def _merged(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        if low.shape != self.min_val.shape:
            raise CalibrationError(
                f"{type(self).__name__} met {low.numel()} channels after {self.min_val.numel()}.",
                where=self.label,
                source=self.source,
                remedy="Observe values of one channel count, or use a per-tensor observer.",
            )
        return super()._merged(low, high)


class MovingAveragePerChannelMinMaxObserver(PerChannelMinMaxObserver):
    """Moving average of each channel's minima and maxima: the first batch sets, then ``v += c * (new - v)``.

    Args:
        averaging_constant: ``c`` above.
        ch_axis: The channel dimension.
    """

    merged_state = staticmethod(mean_extremes)

    @checked
    def __init__(
        self,
        averaging_constant: float = 0.01,
        ch_axis: int = 0,
        dtype: Any = QDType.quint8,
        qscheme: Any = QScheme.per_channel_affine,
        *,
        reduce_range: bool = False,
        quant_min: int | None = None,
        quant_max: int | None = None,
        eps: float = FLOAT32_EPS,
    ) -> None:
        super().__init__(
            ch_axis, dtype, qscheme, reduce_range=reduce_range, quant_min=quant_min, quant_max=quant_max, eps=eps
        )
        self.averaging_constant = averaging_constant

    def _merged(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        super()._merged(low, high)
        c = self.averaging_constant
        return averaged(self.min_val, low, c), averaged(self.max_val, high, c)
