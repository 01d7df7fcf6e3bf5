"""The first samples of some data, to look at many nodes with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

_SHARE, _MOST = 16, 8
"""One sample in so many, but not more."""


def few_rows(batches: Sequence[Any]) -> Any | None:
    """A batch of the first samples of the first batch; None where there are few as it is, or can't be told apart.

    A sample is a row of every tensor in the batch.
    """
    counts = [_rows(batch) for batch in batches]
    rows = min(_MOST, sum(counts) // _SHARE, counts[0])
    if rows == 0 or 0 in counts:
        return None
    return pytree.tree_map_only(Tensor, lambda x: x[:rows].clone(), batches[0])


def same_rows(few: Any, whole: Any) -> bool:
    """Whether outputs of the first samples are the first rows of the outputs of all."""
    ours, theirs = pytree.tree_leaves(few), pytree.tree_leaves(whole)
    return len(ours) == len(theirs) and all(_is_start(x, y) for x, y in zip(ours, theirs, strict=True))


def _rows(batch: Any) -> int:
    """How many rows every tensor in a batch has; 0 where they differ."""
    counts = {len(x) if x.dim() else 0 for x in pytree.tree_leaves(batch) if isinstance(x, Tensor)}
    return counts.pop() if len(counts) == 1 else 0


def _is_start(few: Any, whole: Any) -> bool:
    if not isinstance(few, Tensor) or not isinstance(whole, Tensor):
        return type(few) is type(whole) and bool(few == whole)
    if few.shape[1:] != whole.shape[1:] or not few.dim() > 0 or len(few) > len(whole) or few.dtype != whole.dtype:
        return False
    start = whole[: len(few)]
    if not few.is_floating_point():
        return torch.equal(few, start)
    largest = float(start.abs().max()) if start.numel() else 0.0
    return torch.allclose(few, start, rtol=1e-3, atol=1e-4 * largest)
