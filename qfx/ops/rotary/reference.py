"""Float reference of rotary embedding."""

from __future__ import annotations

import torch
from torch import Tensor

from qfx.errors import InputError


def rotary(x: Tensor, cos: Tensor, sin: Tensor, *, length: int, interleaved: bool) -> Tensor:
    """The first ``length`` channels turned by two, ``(a cos - b sin, b cos + a sin)``, with those behind them.

    Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021, equation 34.

    Args:
        x: ``[..., C]``.
        cos: ``[..., length]``, or ``[..., length / 2]`` with an entry for both channels of a pair; the other dims are
            broadcast to those of ``x``.
        sin: As ``cos``.
        length: Even, ``C`` at most.
        interleaved: Whether the channels of a pair are neighbours (GPT-J), and not ``length / 2`` apart (GPT-NeoX).

    Raises:
        InputError: Angles or ``length`` do not fit ``x``.
    """
    _require_fit(x, cos, sin, length)
    (a, b), (cos_a, cos_b), (sin_a, sin_b) = (
        pairs(values, length, interleaved=interleaved) for values in (x, cos, sin)
    )
    turned = [a * cos_a - b * sin_a, b * cos_b + a * sin_b]
    joined = torch.stack(turned, -1).flatten(-2) if interleaved else torch.cat(turned, -1)
    return torch.cat([joined, x[..., length:]], -1)


def pairs(values: Tensor, length: int, *, interleaved: bool) -> tuple[Tensor, Tensor]:
    """What belongs to the first, and to the second channel of each pair; entries of a pair belong to both."""
    half = length // 2
    if values.shape[-1] == half:
        return values, values
    if interleaved:
        return values[..., 0:length:2], values[..., 1:length:2]
    return values[..., :half], values[..., half:length]


def _require_fit(x: Tensor, cos: Tensor, sin: Tensor, length: int) -> None:
    outer = tuple(x.shape[:-1])
    fits = length > 0 and length % 2 == 0 and length <= x.shape[-1] and cos.shape[-1] == sin.shape[-1]
    for angles in (cos, sin):
        dims = tuple(angles.shape[:-1])
        own = outer[len(outer) - len(dims) :]
        fits &= angles.shape[-1] in (length, length // 2) and len(dims) <= len(outer)
        fits &= all(a in (1, b) for a, b in zip(dims, own, strict=False))
    if not fits:
        raise InputError(
            f"rotary can't turn {length} channels of {tuple(x.shape)} by angles of {tuple(cos.shape)} "
            f"and {tuple(sin.shape)}.",
            remedy="Give an even number of channels, and an angle for each or for each pair of them.",
        )
