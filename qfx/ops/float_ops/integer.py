"""Exact references of softmax: numpy float32, operation by operation as ``qfx/kernels/float_ops`` computes them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from qfx.ir.types import QParams
from qfx.ops.epilogue import Operand, quantized, value
from qfx.ops.pointwise import float32
from qfx.ops.pointwise.float32 import Array, F

_LANES, _GROUP = 16, 64
"""Element i of a row is in lane ``i % _LANES``; the lanes of ``_GROUP`` of them at a time are summed apart."""


def softmax(x: Operand, *, dim: int, out: QParams | None) -> Tensor:
    """Softmax along ``dim`` of float32 values."""
    return quantized(_along(value(x), dim, log=False), out)


def log_softmax(x: Operand, *, dim: int, out: QParams | None) -> Tensor:
    """The logarithm of softmax along ``dim`` of float32 values."""
    return quantized(_along(value(x), dim, log=True), out)


def causal_softmax(x: Operand, *, out: QParams | None) -> Tensor:
    """Softmax along the last dim of what is on or below the diagonal of the last two dims; zero above it."""
    real = value(x)
    above = torch.ones(real.shape[-2:], dtype=torch.bool).triu(1)
    return quantized(_along(real.masked_fill(above, -torch.inf), -1, log=False).masked_fill(above, 0.0), out)


def _along(x: Tensor, dim: int, *, log: bool) -> Tensor:
    moved = x.movedim(dim, -1)
    if not moved.numel():
        return x.clone()
    rows = moved.reshape(-1, moved.shape[-1]).numpy()
    with np.errstate(all="ignore"):
        y = _of_rows(rows, log=log)
    return torch.from_numpy(y).reshape(moved.shape).movedim(-1, dim)


def _of_rows(x: Array, *, log: bool) -> Array:
    above = x - x.max(1, keepdims=True)
    powers = float32.exp_below(above)
    total = _sums(powers)
    return above - float32.log(total) if log else powers * (F(1.0) / total)


def _sums(x: Array) -> Array:
    """The sum of each row, ``[rows, 1]``."""
    blocks = np.pad(x, ((0, 0), (0, -x.shape[1] % _LANES))).reshape(len(x), -1, _LANES)
    total = np.zeros((len(x), _LANES), F)
    for first in range(0, blocks.shape[1], _GROUP):
        group = np.zeros_like(total)
        for block in blocks[:, first : first + _GROUP].swapaxes(0, 1):
            group = group + block
        total = total + group
    while total.shape[1] > 1:
        low, high = np.split(total, 2, axis=1)
        total = low + high
    return total
