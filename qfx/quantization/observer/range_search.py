"""The range that minimises the expected squared error of quantization, searched on a histogram.

For a density ``n`` and integers that stand for the values ``L_first .. L_last``, ``scale`` apart, with the rounding
thresholds ``b_j`` in the middle between neighbours, the sum of squared errors is::

    E = S2 - 2 L_last S1 + L_last^2 S0 - 2 scale sum_j G(b_j),    G(t) = integral of (t - x) n(x) over x < t

with the moments ``S0, S1, S2`` of the whole density (Abel summation of the sum over integers). ``G`` is piecewise
quadratic, so one candidate costs one look-up a threshold, whatever the number of bins.

Arrays are NumPy float64: one thread, so the same answer whatever the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qfx.quantization.observer.bins import BinGrid

Array = NDArray[np.float64]
Affine = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

# Offsets first..stop-1 in fractions of an octave: the whole span, then ever closer around the best point.
_ROUNDS = ((0, 23, 2.0), (-4, 5, 8.0), (-4, 5, 32.0), (-4, 5, 128.0))
_MAX_LEVELS = 1 << 12


@dataclass(frozen=True)
class Density:
    """Counts spread evenly over their bins; the outer bins end at the smallest and the largest value.

    Attributes:
        low: The smallest value.
        high: The largest value.
        grid: The bins.
        counts: Values in each bin, ``[bins]``.
        edges: Lower edges, ``[bins]``.
        widths: Widths, ``[bins]``; an outer bin may have none and then is a point mass.
        below: Values below each lower edge, ``[bins]``.
        integral: ``G`` at each lower edge, ``[bins]``.
        moments: Sums of 1, x and x^2.
    """

    low: float
    high: float
    grid: BinGrid
    counts: Array
    edges: Array
    widths: Array
    below: Array
    integral: Array
    moments: tuple[float, float, float]

    @classmethod
    def of(cls, histogram: Tensor, grid: BinGrid, low: float, high: float) -> Density:
        """The density of ``histogram`` (``[bins]``) on ``grid``, whose data lie in ``low..high``."""
        counts = histogram[: grid.used].double().cpu().numpy()
        bounds = ((np.arange(grid.used + 1, dtype=np.float64) + grid.first) * grid.width).clip(low, high)
        lower, upper = bounds[:-1], bounds[1:]
        below = counts.cumsum() - counts
        area = (below + counts / 2) * (upper - lower)
        squares = (lower * lower + lower * upper + upper * upper) / 3
        moments = float(counts.sum()), float(counts @ (lower + upper)) / 2, float(counts @ squares)
        return cls(low, high, grid, counts, lower, upper - lower, below, area.cumsum() - area, moments)

    def g(self, t: Array) -> Array:
        """``integral of (t - x) n(x) over x < t``, elementwise."""
        index = (np.floor(t / self.grid.width) - self.grid.first).clip(0, self.grid.used - 1).astype(np.intp)
        inside = (t - self.edges[index]).clip(0.0)
        width = self.widths[index]
        partial = np.minimum(inside, width)
        # The share of the bin below t, times its mean distance to t; a bin without width lies below t entirely.
        part = partial * partial / np.where(width > 0, 2 * width, 1.0) + (inside - partial)
        area: Array = self.integral[index] + self.below[index] * inside + self.counts[index] * part
        return area


def expected_error(density: Density, scale: Array, zero_point: Array, quant_min: int, quant_max: int) -> Array:
    """Sum of squared quantization errors for each pair of ``scale`` and ``zero_point``: ``[candidates]``."""
    thresholds = np.arange(quant_min, quant_max, dtype=np.float64) + 0.5
    g = density.g((thresholds - zero_point[:, None]) * scale[:, None]).sum(1)
    last = (quant_max - zero_point) * scale
    s0, s1, s2 = density.moments
    error: Array = s2 - 2 * last * s1 + last * last * s0 - 2 * scale * g
    return error


def best_range(
    density: Density, affine: Affine, quant_min: int, quant_max: int, *, symmetric: bool
) -> tuple[float, float]:
    """``(minimum, maximum)`` within the data's range whose qparams minimise the expected squared error.

    Both ends shrink on a geometric grid, refined around its best point, to 0.5 %; the wider range wins a tie.
    With more than 4096 integers rounding is not worth a search, and the whole range is returned.

    Args:
        density: What was observed.
        affine: Tensors of minima and maxima to ``(scale, zero_point)``, elementwise.
        quant_min: Lowest integer.
        quant_max: Highest integer.
        symmetric: The two ends are one number.
    """
    low, high = min(density.low, 0.0), max(density.high, 0.0)
    if symmetric:
        low, high = min(low, -high), max(-low, high)
    if low == high or quant_max - quant_min > _MAX_LEVELS:
        return low, high
    best = np.zeros(2)
    for first, stop, per_octave in _ROUNDS:
        offsets = np.arange(first, stop) / per_octave
        octaves = _pairs(best, offsets, two_sided=low < 0 < high and not symmetric)
        ends = np.exp2(-octaves) * (low, high)
        scale, zero_point = (t.double().numpy() for t in affine(*torch.from_numpy(ends).unbind(1)))
        best = octaves[expected_error(density, scale, zero_point, quant_min, quant_max).argmin()]
    return low * float(np.exp2(-best[0])), high * float(np.exp2(-best[1]))


def _pairs(center: Array, offsets: Array, *, two_sided: bool) -> Array:
    """Octaves by which (low, high) shrink, ``[candidates, 2]``: widest first, never wider than the data."""
    low, high = (np.unique((c + offsets).clip(0.0)) for c in center)
    if two_sided:
        return np.stack(np.meshgrid(low, high, indexing="ij"), axis=-1).reshape(-1, 2)
    return np.stack([high, high], axis=1)
