"""Histograms whose bins are ``[i * 2^e, (i + 1) * 2^e)``: exact to count, to coarsen and to merge."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_SMALLEST_EXPONENT = -100
_CHUNK = 1 << 20


@dataclass(frozen=True)
class BinGrid:
    """Bins of width ``2**exponent``; bin 0 is ``[first * width, (first + 1) * width)``.

    Attributes:
        exponent: Binary logarithm of the bin width.
        first: Index of the first bin, in bin widths from zero.
        used: Number of bins that data can fall into.
    """

    exponent: int
    first: int
    used: int

    @property
    def width(self) -> float:
        return math.ldexp(1.0, self.exponent)


def bin_grid(low: float, high: float, bins: int) -> BinGrid:
    """The finest grid that covers the float32 range ``low..high`` with at most ``bins`` bins.

    The exponent never falls when the range grows, so a histogram only ever coarsens.
    """
    magnitude = max(-low, high, low, -high)
    exponent = max(_SMALLEST_EXPONENT, math.frexp(magnitude)[1] - 23)
    while _index(high, exponent) - _index(low, exponent) >= bins:
        exponent += 1
    first = _index(low, exponent)
    return BinGrid(exponent, first, _index(high, exponent) - first + 1)


def _index(value: float, exponent: int) -> int:
    return math.floor(math.ldexp(value, -exponent))


def count(x: Tensor, grid: BinGrid, bins: int) -> Tensor:
    """How many values of flat ``x`` (finite, within the grid) fall into each bin: int64 ``[bins]``.

    Scaling by a power of two, ``floor`` and the subtraction of ``first`` are exact in float32; only a negative value
    so small that its quotient underflows counts as zero. Chunks keep the temporaries in the second-level cache.
    """
    total = torch.zeros(bins, dtype=torch.int64, device=x.device)
    index_dtype = torch.int16 if bins <= 1 << 15 else torch.int32
    for chunk in torch.split(x, _CHUNK):
        index = chunk.float() * math.ldexp(1.0, -grid.exponent)
        index = index.floor_().sub_(float(grid.first)).to(index_dtype)
        counts = torch.bincount(index, minlength=bins)
        total += counts[:bins]
        # Where no bin holds zero, what underflowed came out one bin too high.
        total[grid.used - 1] += counts[grid.used :].sum()
        total[grid.used :] = 0
    return total


def coarsen(histogram: Tensor, old: BinGrid, new: BinGrid) -> Tensor:
    """``histogram`` on ``old`` moved to ``new``, which covers it and is at least as coarse: sums of whole bins."""
    if old == new:
        return histogram
    index = torch.arange(old.used, device=histogram.device) + old.first
    index = (index >> (new.exponent - old.exponent)) - new.first
    return torch.zeros_like(histogram).index_add_(0, index, histogram[: old.used])
