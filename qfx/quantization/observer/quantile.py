"""The histogram observer that the named qconfigs ("x86", "fbgemm", "qnnpack", "onednn") have always meant."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from qfx.arguments import checked
from qfx.errors import QConfigError
from qfx.ir.types import QDType, QScheme
from qfx.quantization.observer.base import FLOAT32_EPS, State, as_observable
from qfx.quantization.observer.minmax import MinMaxObserver, extremes

_STEP = 1e-5
_UPSAMPLING = 16
_LARGEST = torch.finfo(torch.float32).max


def _in_range(low: float, high: float) -> float:
    """A power of two by which a range is multiplied, exactly, so that its width times its bins is a float32."""
    return 2.0**-24 if high - low > _LARGEST * 2.0**-24 else 1.0


def moved(histogram: Tensor, old: tuple[float, float], new: tuple[float, float]) -> Tensor:
    """``histogram`` over the range ``old`` redistributed over the wider range ``new``: float32 ``[bins]``."""
    if old == new:
        return histogram
    factor, bins = _in_range(*new), histogram.numel()
    old, new = ((low * factor, high * factor) for low, high in (old, new))
    if old[0] == old[1]:
        return torch.histc(torch.tensor(old[0]), bins, *new).to(histogram.device) * histogram.sum()
    fine = histogram.repeat_interleave(_UPSAMPLING) / _UPSAMPLING
    low, high = torch.tensor(old)
    step = (high - low) / fine.numel()
    middles = torch.linspace(old[0], old[1], fine.numel() + 1)[:-1] + 0.5 * step
    target = torch.bucketize(middles, torch.linspace(new[0], new[1], bins + 1), right=True) - 1
    target = target.clamp(0, bins - 1).to(histogram.device)
    return torch.bincount(target, weights=fine, minlength=bins)


def redistributed(states: Sequence[State]) -> State:
    """Histograms moved to the whole range, as one observer does when its range grows."""
    whole = extremes(states)
    span = float(whole["min_val"]), float(whole["max_val"])
    parts = [moved(s["histogram"], (float(s["min_val"]), float(s["max_val"])), span) for s in states]
    return {**whole, "histogram": torch.stack(parts).sum(0)}


class QuantileHistogramObserver(MinMaxObserver):
    """A histogram clipped quantile by quantile for as long as the squared error falls.

    Gives the qparams that models quantized with the field's named qconfigs have. The histogram spans the minimum to
    the maximum; when these grow, the old bins are cut in 16 and moved to the new bins by their midpoints. The search
    drops quantiles of 1e-5 at whichever end loses more bins, and stops when the error of ``2**bits`` even steps over
    the remaining bins rises (NormMinimization::NonlinearQuantizationParamsSearch of caffe2). HistogramObserver finds
    better ranges; this one is for those who must keep their numbers.

    State: ``histogram`` float32 ``[bins]``, ``min_val`` and ``max_val`` float32 scalars.

    Args:
        bins: Size of the histogram.

    Raises:
        CalibrationError: NaN or infinity in the data; qparams asked before data.
    """

    histogram: Tensor
    _resizable: ClassVar[tuple[str, ...]] = ("min_val", "max_val", "histogram")
    merged_state = staticmethod(redistributed)
    united_state = staticmethod(redistributed)

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
        if bins < 1:
            raise QConfigError(f"bins={bins} is no number of bins.", remedy="Give at least 1.")
        self.register_buffer("histogram", torch.zeros(bins))

    def forward(self, x: Tensor) -> Tensor:
        """Add ``x`` (any shape and float dtype; empty is ignored) to the histogram and return it."""
        values = as_observable(self, x)
        if values.numel() == 0:
            return x
        seen = not self._unseen()
        old = float(self.min_val), float(self.max_val)
        super().forward(x)
        new = float(self.min_val), float(self.max_val)
        factor = _in_range(*new)
        bounds = (bound * factor for bound in new)
        counts = torch.histc(values.float() * factor, self.histogram.numel(), *bounds).to(self.histogram.device)
        self.histogram.copy_(counts + moved(self.histogram, old, new) if seen else counts)
        return x

    def reset_min_max_vals(self) -> None:
        """Forget all data."""
        super().reset_min_max_vals()
        self.histogram.zero_()

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        """``(scale, zero_point)``, float32 and int64, shape ``[1]``, of the clipped range."""
        if self._unseen():
            raise self.never_ran()
        bits = QDType.parse(self.dtype).storage.itemsize * 8
        first, last = clipped_bins(self.histogram.cpu(), float(self.max_val) - float(self.min_val), 2**bits)
        factor = _in_range(float(self.min_val), float(self.max_val))
        begin, end = self.min_val * factor, self.max_val * factor
        width = (end - begin) / self.histogram.numel()
        low, high = begin + width * first, begin + width * (last + 1)
        if factor < 1.0:
            low, high = low / factor, torch.minimum(high, end) / factor
        return self.affine(low.reshape(1), high.reshape(1))


def clipped_bins(histogram: Tensor, span: float, steps: int) -> tuple[int, int]:
    """First and last bin of the range that the quantile search keeps.

    Args:
        histogram: float32 ``[bins]``.
        span: Width of all bins together.
        steps: Number of even steps over the range, ``2**bits``.
    """
    span = math.frexp(span)[0]  # errors are compared with each other: cubes of the width stay in float32
    cumulative = histogram.cumsum(0).numpy()
    total = float(histogram.sum())
    count = round(1 / _STEP) + 2
    alphas = np.add.accumulate(np.full(count, _STEP))
    betas = np.subtract.accumulate(np.concatenate([[1.0], np.full(count, _STEP)]))[1:]
    lefts = np.searchsorted(cumulative, (alphas * total).astype(np.float32), side="left").tolist()
    rights = (np.searchsorted(cumulative, (betas * total).astype(np.float32), side="right") - 1).tolist()
    first, last, i, j, least = 0, histogram.numel() - 1, 0, 0, float("inf")
    while (alphas[i - 1] if i else 0.0) < (betas[j - 1] if j else 1.0):
        left, right = max(first, min(lefts[i], last)), min(last, max(rights[j], first))
        if left - first > last - right:
            candidate, i = (left, last), i + 1
        else:
            candidate, j = (first, right), j + 1
        if candidate == (first, last):
            continue
        error = even_steps_error(histogram, span / histogram.numel(), candidate, steps)
        if error > least:
            break
        least, (first, last) = error, candidate
    return first, last


def even_steps_error(histogram: Tensor, width: float, bins: tuple[int, int], steps: int) -> float:
    """Sum of squared errors of ``steps`` even steps over bins ``first..last``, uniform within each bin."""
    first, last = bins
    step = width * (last - first + 1) / steps
    if step == 0.0:
        return 0.0
    begin = (torch.arange(histogram.numel()) - first) * width
    end = begin + width
    step_of_begin = torch.div(begin, step, rounding_mode="floor").clamp(0, steps - 1)
    step_of_end = torch.div(end, step, rounding_mode="floor").clamp(0, steps - 1)
    density = histogram / width
    half = torch.tensor(step / 2)
    error = density * _third_of_cubes(begin - (step_of_begin + 0.5) * step, half)
    error += (step_of_end - step_of_begin - 1) * (density * _third_of_cubes(-half, half))
    error += density * _third_of_cubes(-half, end - (step_of_end * step + step / 2))
    return float(error.sum())


def _third_of_cubes(begin: Tensor, end: Tensor) -> Tensor:
    return (end * end * end - begin * begin * begin) / 3
