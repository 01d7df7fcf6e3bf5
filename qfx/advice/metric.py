"""How good outputs are: noise over signal against the float model, or what the user's function says."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from qfx.advice.records import NOISE_TO_SIGNAL
from qfx.errors import InputError

Metric: TypeAlias = Callable[[Any, Any], Any]
"""``metric(outputs, batch)``: a number, lower is better."""


@dataclass
class Score:
    """Running sums over batches.

    Attributes:
        over: Mean squares of the float outputs, or batches.
        sum: Squares of the differences, or the metric's results.
    """

    sum: float = 0.0
    over: float = 0.0

    def add(self, metric: Metric | None, outputs: Any, reference: Any, batch: Any) -> None:
        """Take one batch in.

        Args:
            metric: The user's, or None for noise to signal.
            outputs: What a simulation returned.
            reference: What the float model returned.
            batch: What both computed it from, as the user gave it.

        Raises:
            InputError: The metric fails or gives no number; the float model's outputs are not finite.
        """
        if metric is not None:
            self.sum, self.over = self.sum + _call(metric, outputs, batch), self.over + 1
            return
        for ours, theirs in zip(_tensors(outputs), _tensors(reference), strict=True):
            self.sum += float((ours.double() - theirs.double()).square().sum())
            self.over += float(theirs.double().square().sum())
        if not math.isfinite(self.over):
            raise InputError(
                "The float model's outputs are not finite on this data.",
                remedy="Check the data, and that the float model is finite on it.",
            )

    def join(self, other: Score) -> None:
        """Take in what ``other`` has summed up."""
        self.sum, self.over = self.sum + other.sum, self.over + other.over

    def value(self) -> float:
        """The mean of all batches. A difference from outputs that are all zero counts as infinite."""
        if self.over == 0:
            return math.inf if self.sum > 0 else 0.0
        return self.sum / self.over


def name_of(metric: Metric | None) -> str:
    """What a table calls the metric."""
    return NOISE_TO_SIGNAL if metric is None else str(getattr(metric, "__name__", type(metric).__name__))


def _tensors(outputs: Any) -> list[Tensor]:
    return [v for v in pytree.tree_leaves(outputs) if isinstance(v, Tensor) and v.is_floating_point()]


def _call(metric: Metric, outputs: Any, batch: Any) -> float:
    try:
        with torch.no_grad():
            value = float(metric(outputs, batch))
    except Exception as error:
        raise InputError(
            f"metric(outputs, batch) fails: {type(error).__name__}: {error}",
            why="It gets what the model returns for a batch, and that batch as it is in the data.",
            remedy="Return a number that is lower for better outputs, such as "
            "lambda outputs, batch: torch.nn.functional.cross_entropy(outputs, batch[1]).",
        ) from error
    if math.isnan(value):
        raise InputError(
            "metric(outputs, batch) is NaN.", remedy="Return a finite number that is lower for better outputs."
        )
    return value
