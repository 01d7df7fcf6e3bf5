"""The observer that minimises the expected squared error of quantization."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from qfx.arguments import checked
from qfx.errors import QConfigError
from qfx.ir.types import QDType, QScheme
from qfx.quantization.observer.base import FLOAT32_EPS, State, as_observable
from qfx.quantization.observer.bins import bin_grid, coarsen, count
from qfx.quantization.observer.minmax import MinMaxObserver, extremes, storage_order
from qfx.quantization.observer.range_search import Density, best_range


def histograms(states: Sequence[State]) -> State:
    """Exactly what one observer of all the data has."""
    bins = states[0]["histogram"].numel()
    whole = extremes(states)
    grid = bin_grid(float(whole["min_val"]), float(whole["max_val"]), bins)
    parts = [coarsen(s["histogram"], bin_grid(float(s["min_val"]), float(s["max_val"]), bins), grid) for s in states]
    return {**whole, "histogram": torch.stack(parts).sum(0)}


class HistogramObserver(MinMaxObserver):
    """A histogram of all data, and the clipping range with the smallest expected squared error.

    Bin ``i`` holds the values in ``[i * w, (i + 1) * w)``; ``w`` is the smallest power of two for which ``bins`` bins
    cover the data, so between half and all of them are in use. When the range grows, ``w`` doubles as often as
    needed and neighbouring bins are added up: exact, with no interpolation. Hence the state depends on the
    data alone, not on their order nor on how they were split into batches, and histograms of several processes merge
    exactly.

    The range is searched as :mod:`qfx.quantization.observer.range_search` describes: over both ends at once, with the
    error of the integers that these qparams would really produce. More than 4096 integers keep minimum and maximum.

    State: ``histogram`` int64 ``[bins]``, ``min_val`` and ``max_val`` float32 scalars.

    Args:
        bins: Size of the histogram, at least 2.

    Raises:
        CalibrationError: NaN or infinity in the data; qparams asked before data.
    """

    histogram: Tensor
    _resizable: ClassVar[tuple[str, ...]] = ("min_val", "max_val", "histogram")
    merged_state = staticmethod(histograms)
    united_state = staticmethod(histograms)

    @checked
    def __init__(
        self,
        bins: int = 2048,
        dtype: Any = QDType.quint8,
        qscheme: Any = QScheme.per_tensor_affine,
        *,
        reduce_range: bool = False,
        quant_min: int | None = None,
        quant_max: int | None = None,
        eps: float = FLOAT32_EPS,
    ) -> None:
        super().__init__(dtype, qscheme, reduce_range=reduce_range, quant_min=quant_min, quant_max=quant_max, eps=eps)
        if bins < 2:
            raise QConfigError(
                f"{type(self).__name__} needs at least 2 bins, not {bins}.", remedy="Leave bins out for 2048."
            )
        self.register_buffer("histogram", torch.zeros(bins, dtype=torch.int64))

    @property
    def bins(self) -> int:
        """Size of the histogram."""
        return self.histogram.numel()

    def forward(self, x: Tensor) -> Tensor:
        """Add ``x`` (any shape and float dtype; empty is ignored) to the histogram and return it."""
        values = as_observable(self, x)
        old = None if self._unseen() else bin_grid(float(self.min_val), float(self.max_val), self.bins)
        super().forward(x)
        if values.numel() > 0:
            new = bin_grid(float(self.min_val), float(self.max_val), self.bins)
            if old is not None:
                self.histogram.copy_(coarsen(self.histogram, old, new))
            counts = count(storage_order(values).reshape(-1), new, self.bins)
            self.histogram += counts.to(self.histogram.device)
        return x

    def reset_min_max_vals(self) -> None:
        """Forget all data."""
        super().reset_min_max_vals()
        self.histogram.zero_()

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        """``(scale, zero_point)``, float32 and int64, shape ``[1]``, of the best clipping range."""
        low, high = self.clipping_range()
        bounds = torch.tensor([[low], [high]], dtype=torch.float32, device=self.min_val.device)
        return self.affine(bounds[0], bounds[1])

    def clipping_range(self) -> tuple[float, float]:
        """The range with the smallest expected squared error, within the data's; it contains zero."""
        if self._unseen():
            raise self.never_ran()
        low, high = float(self.min_val), float(self.max_val)
        density = Density.of(self.histogram, bin_grid(low, high, self.bins), low, high)
        symmetric = self.qscheme.symmetric
        return best_range(density, self.affine, self.quant_min, self.quant_max, symmetric=symmetric)
