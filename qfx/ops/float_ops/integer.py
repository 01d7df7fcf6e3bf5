"""Exact references of softmax and norms of rows in numpy float32, as ``qfx/kernels/float_ops`` computes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qfx.ir.types import QParams
from qfx.ops.epilogue import Operand, quantized, value
from qfx.ops.pointwise import float32
from qfx.ops.pointwise.float32 import Array, F

_SOFTMAX_LANES, _NORM_LANES, _GROUP = 16, 32, 1024
"""Element i of a row is in lane ``i % lanes``; ``_GROUP`` elements at a time are summed apart."""


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


def layer_norm(
    x: Operand,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    normalized_shape: Sequence[int],
    eps: float,
    out: QParams | None,
) -> Tensor:
    """Layer norm of float32 values, with a mean in two parts."""
    rows = _rows(value(x), normalized_shape)
    with np.errstate(all="ignore"):
        n = F(rows.shape[1])
        away = rows - _sums(rows, _NORM_LANES) / n
        rest = _sums(away, _NORM_LANES) / n
        variance = np.maximum(_sums(away * away, _NORM_LANES) / n - rest * rest, F(0.0))
        y = (away - rest) * (F(1.0) / np.sqrt(variance + F(eps)))
        y = y * _flat(weight, F(1.0)) + _flat(bias, F(0.0))
    return quantized(torch.from_numpy(y).reshape(value(x).shape), out)


def rms_norm(
    x: Operand, weight: Tensor | None = None, *, normalized_shape: Sequence[int], eps: float, out: QParams | None
) -> Tensor:
    """RMS norm of float32 values."""
    rows = _rows(value(x), normalized_shape)
    with np.errstate(all="ignore"):
        square = _sums(rows * rows, _NORM_LANES) / F(rows.shape[1])
        y = (rows * (F(1.0) / np.sqrt(square + F(eps)))) * _flat(weight, F(1.0))
    return quantized(torch.from_numpy(y).reshape(value(x).shape), out)


def _rows(x: Tensor, normalized_shape: Sequence[int]) -> Array:
    """``[rows, elements that are normalized together]``."""
    n = math.prod(normalized_shape)
    rows: Array = x.reshape(x.numel() // n if n else 0, n).numpy()
    return rows


def _flat(factor: Tensor | None, otherwise: Any) -> Any:
    return otherwise if factor is None else factor.reshape(-1).numpy()


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
    total = _sums(powers, _SOFTMAX_LANES)
    return above - float32.log(total) if log else powers * (F(1.0) / total)


def _sums(x: Array, lanes: int) -> Array:
    """The sum of each row, ``[rows, 1]``."""
    blocks = np.pad(x, ((0, 0), (0, -x.shape[1] % lanes))).reshape(len(x), -1, lanes)
    total = np.zeros((len(x), lanes), F)
    for first in range(0, blocks.shape[1], _GROUP // lanes):
        group = np.zeros_like(total)
        for block in blocks[:, first : first + _GROUP // lanes].swapaxes(0, 1):
            group = group + block
        total = total + group
    while total.shape[1] > 1:
        low, high = np.split(total, 2, axis=1)
        total = low + high
    return total
