"""Float references of the ops on integers and truth values, and of those that make floats of them.

Where an operand may be a tensor or a number, torch's promotion says what the result is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

Value: TypeAlias = Tensor | float
"""An operand that is a tensor, or a number."""


def embedding(indices: Tensor, weight: Tensor, *, padding_idx: int | None = None) -> Tensor:
    """The row of ``weight`` at each index, ``[*indices.shape, features]``; that of ``padding_idx`` is not trained."""
    return F.embedding(indices, weight, padding_idx)


def embedding_bag(
    indices: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    per_sample_weights: Tensor | None = None,
    *,
    mode: str = "mean",
    include_last_offset: bool = False,
    padding_idx: int | None = None,
    sparse: bool = False,
    scale_grad_by_freq: bool = False,
) -> Tensor:
    """Sum, mean or maximum of the rows of ``weight`` that each bag of indices takes, ``[bags, features]``.

    Args:
        indices: ``[bags, indices]`` or, with ``offsets``, ``[indices]``.
        weight: ``[rows, features]``.
        offsets: Where each bag begins, ``[bags]``; with ``include_last_offset`` one more.
        per_sample_weights: A factor an index, for ``mode="sum"``.
        mode: ``"sum"``, ``"mean"`` or ``"max"``.
        include_last_offset: Whether the last offset is where the last bag ends.
        padding_idx: A row that no bag counts.
        sparse, scale_grad_by_freq: How gradients are.
    """
    return F.embedding_bag(
        indices, weight, offsets, mode=mode, include_last_offset=include_last_offset, padding_idx=padding_idx,
        per_sample_weights=per_sample_weights, sparse=sparse, scale_grad_by_freq=scale_grad_by_freq,
    )  # fmt: skip


def cast(x: Tensor, *, dtype: torch.dtype) -> Tensor:
    """``x`` as ``dtype``."""
    return x.to(dtype)


def eq(x: Tensor, y: Value) -> Tensor:
    """Whether ``x == y``."""
    return torch.eq(x, y)


def ne(x: Tensor, y: Value) -> Tensor:
    """Whether ``x != y``."""
    return torch.ne(x, y)


def lt(x: Tensor, y: Value) -> Tensor:
    """Whether ``x < y``."""
    return torch.lt(x, y)


def le(x: Tensor, y: Value) -> Tensor:
    """Whether ``x <= y``."""
    return torch.le(x, y)


def gt(x: Tensor, y: Value) -> Tensor:
    """Whether ``x > y``."""
    return torch.gt(x, y)


def ge(x: Tensor, y: Value) -> Tensor:
    """Whether ``x >= y``."""
    return torch.ge(x, y)


def logical_and(x: Tensor, y: Tensor) -> Tensor:
    """Whether neither is 0."""
    return torch.logical_and(x, y)


def logical_or(x: Tensor, y: Tensor) -> Tensor:
    """Whether one at least is not 0."""
    return torch.logical_or(x, y)


def logical_xor(x: Tensor, y: Tensor) -> Tensor:
    """Whether one is 0, and the other is not."""
    return torch.logical_xor(x, y)


def logical_not(x: Tensor) -> Tensor:
    """Whether ``x`` is 0."""
    return torch.logical_not(x)


def minimum(x: Tensor, y: Tensor) -> Tensor:
    """The smaller of two integers."""
    return torch.minimum(x, y)


def maximum(x: Tensor, y: Tensor) -> Tensor:
    """The larger of two integers."""
    return torch.maximum(x, y)


def where(condition: Tensor, x: Value, y: Value) -> Tensor:
    """``x`` where the condition holds, else ``y``."""
    return torch.where(condition, x, y)


def arange(*, start: int, end: int, step: int) -> Tensor:
    """``start``, ``start + step`` and so on to before ``end``, as int64."""
    return torch.arange(start, end, step)


def full(shape: Sequence[int], *, value: float, dtype: torch.dtype) -> Tensor:
    """``value`` everywhere."""
    return torch.full(tuple(shape), value, dtype=dtype)


def cumsum(x: Tensor, *, dim: int) -> Tensor:
    """The sums of the integers up to each along ``dim``, as int64."""
    return torch.cumsum(x, dim)


def argmax(x: Tensor, *, dim: int, keepdim: bool) -> Tensor:
    """The place of the largest along ``dim``; the first, where there are several."""
    return torch.argmax(x, dim, keepdim)


def gather(x: Tensor, index: Tensor, *, dim: int) -> Tensor:
    """The element of ``x`` at the place of each index, but along ``dim`` where the index says."""
    return torch.gather(x, dim, index)


def take(x: Tensor, indices: Sequence[Tensor]) -> Tensor:
    """The parts of ``x`` that indices of its first dims take: ``x[indices[0], indices[1], ...]``."""
    return x[tuple(indices)]
