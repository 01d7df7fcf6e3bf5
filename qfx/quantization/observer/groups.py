"""Minimum and maximum of each group of a row's weights."""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn

import torch
from torch import Tensor

from qfx.arguments import checked
from qfx.errors import QConfigError
from qfx.ir.types import QDType, QScheme
from qfx.quantization.observer.base import FLOAT32_EPS
from qfx.quantization.observer.minmax import PerChannelMinMaxObserver


class PerGroupMinMaxObserver(PerChannelMinMaxObserver):
    """Running minimum and maximum of each group of neighbours in each row of a matrix: for weights alone.

    A group of zeros has scale 1.

    State: ``min_val`` and ``max_val``, float32 ``[rows, groups]``; empty before data.

    Args:
        group_size: Neighbours of a group; None takes a row as one.
        quant_min: Lowest integer, with ``quant_max``; in -8..7 weights are stored in 4 bits.
    """

    _resizable: ClassVar[tuple[str, ...]] = ("min_val", "max_val")

    @checked
    def __init__(
        self,
        group_size: int | None = 32,
        dtype: Any = QDType.qint8,
        qscheme: Any = QScheme.per_channel_symmetric,
        *,
        quant_min: int | None = None,
        quant_max: int | None = None,
        eps: float = FLOAT32_EPS,
    ) -> None:
        if group_size is not None and group_size < 1:
            raise QConfigError(f"group_size={group_size} is no number of weights.", remedy="Use 32, 64, 128 or None.")
        super().__init__(0, dtype, qscheme, quant_min=quant_min, quant_max=quant_max, eps=eps)
        self.group_size = group_size

    @property
    def bits(self) -> int:
        """4 or 8: how many the integers in use need."""
        return 4 if self.quant_min >= -8 and self.quant_max <= 7 else 8

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        """``(scale, zero_point)``, float32 and int64 ``[rows, groups]``."""
        self._require_seen()
        scale, zero_point = self.affine(self.min_val, self.max_val)
        return torch.where((self.min_val == 0) & (self.max_val == 0), torch.ones_like(scale), scale), zero_point

    def qparams(self) -> NoReturn:
        """Raise QConfigError: no layer that multiplies integers takes a scale a group."""
        raise QConfigError(
            "Weights by groups are multiplied with float activations, or with activations by groups.",
            where=self.label,
            source=self.source,
            why=f"{type(self).__name__} finds a scale for each group of a row; integer products have one a channel.",
            remedy="Give the layer qfx.weight_only_qconfig(...), or another weight observer.",
        )

    def _extremes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        size = x.shape[-1] if self.group_size is None else self.group_size
        if x.dim() != 2 or x.shape[1] % size:
            raise QConfigError(
                f"{type(self).__name__} with group_size={self.group_size} met a tensor of shape {tuple(x.shape)}.",
                where=self.label,
                source=self.source,
                remedy="Observe matrices whose rows are whole groups, or use group_size=None.",
            )
        low, high = torch.aminmax(x.reshape(x.shape[0], -1, size), dim=-1)
        return low, high
