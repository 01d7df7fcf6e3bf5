"""Sums over batches, from which deviations follow."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from qfx.comparison.records import Deviation


@dataclass
class Deviating:
    """Running sums over pairs of reference and other values, in float64.

    Attributes:
        signal: Sum of squares of the reference.
        noise: Sum of squares of the differences.
        power: Sum of squares of the other.
        product: Sum of products.
        largest: The greatest absolute difference.
        batches: How many pairs of tensors.
    """

    signal: float = 0.0
    noise: float = 0.0
    power: float = 0.0
    product: float = 0.0
    largest: float = 0.0
    batches: int = 0

    def add(self, reference: Tensor, other: Tensor) -> None:
        """Add two float tensors of one shape."""
        self.batches += 1
        if reference.numel() == 0:
            return
        reference, other = reference.double().flatten(), other.double().flatten()
        difference = other - reference
        self.signal += float(reference @ reference)
        self.noise += float(difference @ difference)
        self.power += float(other @ other)
        self.product += float(reference @ other)
        largest = float(difference.abs().max())
        self.largest = largest if math.isnan(largest) else max(self.largest, largest)

    def deviation(self) -> Deviation | None:
        """The deviation of all that was added; None if nothing was."""
        if self.batches == 0:
            return None
        if self.noise == 0.0:
            return Deviation(math.inf, 1.0, 0.0)
        ratio = self.signal / self.noise
        length = math.sqrt(self.signal * self.power)
        cosine = self.product / length if length else 0.0
        return Deviation(10 * math.log10(ratio) if ratio else -math.inf, cosine, self.largest)
