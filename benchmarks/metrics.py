"""How close two sets of logits are."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch


def sqnr(reference: torch.Tensor, other: torch.Tensor) -> float:
    """Signal to quantization noise over all logits together, dB: 10 log10(sum r^2 / sum (o - r)^2)."""
    noise = (other.double() - reference.double()).square().sum()
    return float(10 * torch.log10(reference.double().square().sum() / noise))


def agreement(reference: torch.Tensor, other: torch.Tensor) -> float:
    """Share of rows [rows, classes] whose largest logit is the same."""
    return float((reference.argmax(1) == other.argmax(1)).double().mean())


def logits(model: Callable[[torch.Tensor], torch.Tensor], batches: Iterable[torch.Tensor]) -> torch.Tensor:
    """The model's outputs for all batches: [rows, classes]."""
    with torch.inference_mode():
        return torch.cat([model(batch).clone() for batch in batches])
