"""Float reference of the rotation of channels."""

from __future__ import annotations

import torch
from torch import Tensor

from qfx.errors import InputError

BLOCKS = (16, 32, 64, 128)
"""Lengths of a block."""


def rotate(x: Tensor, *, block: int) -> Tensor:
    """Each block of the last dim times the orthonormal Hadamard matrix of Sylvester's order, which is its own inverse.

    Args:
        x: ``[..., C]``, ``C`` a multiple of ``block``.
        block: One of :data:`BLOCKS`.

    Raises:
        InputError: ``block`` is none of them, or does not divide ``C``.
    """
    if block not in BLOCKS or x.shape[-1] % block:
        raise InputError(
            f"rotate can't have blocks of {block} in {x.shape[-1]} channels.",
            remedy=f"Give a block of {', '.join(map(str, BLOCKS))} that divides the channels.",
        )
    blocks = x.reshape(*x.shape[:-1], x.shape[-1] // block, block)
    return (blocks @ hadamard(block).to(x)).reshape(x.shape)


def hadamard(block: int) -> Tensor:
    """float64 ``[block, block]``: rows are orthonormal, and it is symmetric."""
    matrix = torch.ones(1, 1, dtype=torch.float64)
    while len(matrix) < block:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix / block**0.5
