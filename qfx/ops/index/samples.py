"""Samples of the ops on integers and truth values."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from qfx.ops.sample import Sample, Samples, call, normal, refused


def indices(*shape: int, rows: int, low: int = 0) -> Tensor:
    """int64 numbers from ``low`` to below ``rows``, always the same for a shape."""
    return torch.randint(low, rows, shape, generator=torch.Generator().manual_seed(0))


def truth(*shape: int, seed: int = 0) -> Tensor:
    """Truth values, always the same for a shape."""
    return normal(*shape, seed=seed) > 0


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


def embedding_bag() -> list[Sample]:
    table, ids, offsets = normal(9, 6), indices(12, rows=9), torch.tensor([0, 3, 3, 8])
    bags = (indices(3, 4, rows=9), table), (ids, table, offsets)
    return [
        *(call(*bag, mode=mode, padding_idx=padding)
          for bag in bags for mode in ("sum", "mean", "max") for padding in (None, 2, -9)),
        *(call(*bag, *others, normal(*bag[0].shape), mode="sum")
          for bag, others in zip(bags, ((None,), ()), strict=True)),
        call(ids, table, torch.tensor([0, 3, 3, 12]), include_last_offset=True),
        call(ids.int(), table, offsets.int()),
        call(ids[:0], table, torch.tensor([0, 0]), mode="max"),
    ]  # fmt: skip


def embedding_bag_bad() -> list[Sample]:
    table, ids = normal(3, 4), torch.tensor([0, 1, 2])
    return [
        refused(RuntimeError, "not in the valid range", torch.tensor([[0, 3]]), table),
        refused(RuntimeError, r"offsets\[0\] has to be 0", ids, table, torch.tensor([1, 2])),
        refused(RuntimeError, "can not be greater than input's length", ids, table, torch.tensor([0, 4])),
        refused(ValueError, "offsets has to be a 1D Tensor", ids, table),
        refused(NotImplementedError, "only supported for mode='sum'", ids[None], table, None, normal(1, 3)),
    ]


_SMALL = partial(indices, rows=4, low=-3)


def cast() -> list[Sample]:
    numbers = normal(3, 4) * 3.0
    return [
        call(given, dtype=dtype)
        for given in (numbers, _SMALL(2, 5), _SMALL(4).int(), truth(3))
        for dtype in (torch.float32, torch.int64, torch.int32, torch.bool)
    ]


def comparison() -> list[Sample]:
    return [
        call(_SMALL(2, 5), _SMALL(3, 2, 1)),
        call(_SMALL(4), 1),
        call(_SMALL(4).int(), 0.5),
        call(_SMALL(2, 1), normal(3)),
        call(truth(5), truth(5, seed=1)),
        call(truth(4), 0),
        call(normal(7), 0.25),
        call(normal(2, 3), normal(3, seed=1)),
    ]


def logical() -> list[Sample]:
    return [
        call(truth(2, 3), truth(3, seed=1)),
        call(_SMALL(4), truth(2, 4)),
        call(normal(3), _SMALL(3)),
    ]


def logical_not() -> list[Sample]:
    return [call(truth(2, 3)), call(_SMALL(5)), call(normal(3))]


def extremum() -> list[Sample]:
    return [call(_SMALL(2, 5), _SMALL(5)), call(_SMALL(3).int(), _SMALL(2, 1).int())]


def where() -> list[Sample]:
    return [
        call(truth(2, 3), normal(2, 3), normal(3, seed=1)),
        call(truth(2, 1), 0.0, -torch.inf),
        call(truth(2, 3), _SMALL(3), 7),
        call(truth(4), -1.5, _SMALL(2, 4)),
        call(truth(3), truth(3, seed=1), truth(2, 3)),
        call(truth(2), _SMALL(2).int(), normal(2)),
    ]


def arange() -> list[Sample]:
    return [
        call(start=0, end=5, step=1),
        call(start=-2, end=6, step=3),
        call(start=4, end=-1, step=-2),
        call(start=0, end=0, step=1),
    ]


def full() -> list[Sample]:
    return [
        call((2, 3), value=-0.5, dtype=torch.float32),
        call((), value=True, dtype=torch.bool),
        call((4, 1), value=7, dtype=torch.int64),
    ]


def cumsum() -> list[Sample]:
    return [call(_SMALL(2, 5), dim=1), call(_SMALL(3, 2).int(), dim=0), call(truth(7), dim=-1)]


def argmax() -> list[Sample]:
    return [
        call(normal(2, 5), dim=1, keepdim=False),
        call(_SMALL(3, 8), dim=-1, keepdim=True),
        call(_SMALL(2, 3, 4).int(), dim=0, keepdim=False),
    ]


def gather() -> list[Sample]:
    return [
        call(normal(2, 5), indices(2, 3, rows=5), dim=1),
        call(_SMALL(4, 3), indices(2, 3, rows=4), dim=0),
        call(truth(2, 3, 4), indices(2, 3, 1, rows=4), dim=-1),
    ]


def take() -> list[Sample]:
    return [
        call(normal(4, 5), [_SMALL(2, 3)]),
        call(_SMALL(4, 5, 3), [_SMALL(2, 1), _SMALL(3)]),
        call(truth(4, 4), [_SMALL(2), indices(2, rows=4)]),
        call(normal(4, 4, 4, 2), [_SMALL(2, 1), _SMALL(3), _SMALL(1, 1)]),
    ]


def pair_bad() -> list[Sample]:
    return [refused(RuntimeError, "must match the size", _SMALL(2), _SMALL(3))]


def attribute_bad() -> list[Sample]:
    return [refused(AttributeError, "has no attribute", [1, 2], dtype=torch.int64)]


GOOD: dict[str, Samples] = {
    "embedding": embedding,
    "embedding_bag": embedding_bag,
    "cast": cast,
    **dict.fromkeys(("eq", "ne", "lt", "le", "gt", "ge"), comparison),
    **dict.fromkeys(("logical_and", "logical_or", "logical_xor"), logical),
    "logical_not": logical_not,
    **dict.fromkeys(("minimum", "maximum"), extremum),
    "where": where,
    "arange": arange,
    "full": full,
    "cumsum": cumsum,
    "argmax": argmax,
    "gather": gather,
    "take": take,
}
BAD: dict[str, Samples] = {
    "embedding": embedding_bad,
    "embedding_bag": embedding_bag_bad,
    "cast": attribute_bad,
    **dict.fromkeys(
        ("eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor", "minimum", "maximum"), pair_bad
    ),
    "logical_not": lambda: [refused(TypeError, "must be Tensor", 1)],
    "where": lambda: [refused(RuntimeError, "must match the size", truth(2), _SMALL(3), 0)],
    "arange": lambda: [refused(RuntimeError, "inconsistent with step sign", start=3, end=0, step=1)],
    "full": lambda: [refused(RuntimeError, "negative dimension", (-1,), value=0, dtype=torch.int64)],
    "cumsum": lambda: [refused(IndexError, "out of range", _SMALL(3), dim=1)],
    "argmax": lambda: [refused(IndexError, "out of range", _SMALL(3), dim=1, keepdim=False)],
    "gather": lambda: [refused(RuntimeError, "out of bounds", normal(3), torch.tensor([3]), dim=0)],
    "take": lambda: [refused(IndexError, "out of bounds", normal(3), [torch.tensor([3])])],
}
