"""How close two sets of outputs are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch


def sqnr(reference: torch.Tensor, other: torch.Tensor) -> float:
    """Signal to quantization noise over all logits together, dB: 10 log10(sum r^2 / sum (o - r)^2)."""
    noise = (other.double() - reference.double()).square().sum()
    return float(10 * torch.log10(reference.double().square().sum() / noise))


def agreement(reference: torch.Tensor, other: torch.Tensor) -> float:
    """Share of rows [rows, classes] whose largest logit is the same."""
    return float((reference.argmax(1) == other.argmax(1)).double().mean())


def cosines(reference: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Of every sample's whole output with its reference: float64 [samples]."""
    return torch.nn.functional.cosine_similarity(reference.double().flatten(1), other.double().flatten(1))


def outputs(model: Callable[..., torch.Tensor], batches: Iterable[Sequence[torch.Tensor]]) -> torch.Tensor:
    """The model's outputs for all batches, each the model's inputs: [samples, ...]."""
    with torch.inference_mode():
        return torch.cat([model(*batch).clone() for batch in batches])
