"""Samples of the ops on integers."""

from __future__ import annotations

import torch
from torch import Tensor

from qfx.ops.sample import Sample, Samples, call, normal, refused


def indices(*shape: int, rows: int) -> Tensor:
    """int64 indices of a table, always the same for a shape."""
    return torch.randint(rows, shape, generator=torch.Generator().manual_seed(0))


def embedding() -> list[Sample]:
    return [
        call(indices(2, 5, rows=7), normal(7, 6)),
        call(indices(4, rows=3), normal(3, 1), padding_idx=0),
        call(indices(rows=9), normal(9, 4)),
    ]


def embedding_bad() -> list[Sample]:
    table = normal(3, 4)
    return [
        refused(IndexError, "out of range", torch.tensor([0, 3]), table),
        refused(IndexError, "out of range", torch.tensor([-1]), table),
        refused(RuntimeError, "indices", normal(2), table),
    ]


def to_float32() -> list[Sample]:
    return [call(normal(2, 3)), call(normal(5))]


def to_float32_bad() -> list[Sample]:
    return [refused(AttributeError, "has no attribute", [1, 2])]


GOOD: dict[str, Samples] = {"embedding": embedding, "to_float32": to_float32}
BAD: dict[str, Samples] = {"embedding": embedding_bad, "to_float32": to_float32_bad}
