"""The rows of the ops on integers and truth values."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from qfx.ops.compute.rows import broadcast_shape
from qfx.ops.dims import Length, Lengths
from qfx.ops.index import integer, reference, samples
from qfx.ops.table import Function, Op, same_shape, with_samples


def embedding_shape(indices: Lengths, weight: Lengths, **attributes: Any) -> Lengths:
    return (*indices, weight[1])


def embedding_bag_shape(
    indices: Lengths,
    weight: Lengths,
    offsets: Lengths | None = None,
    *operands: object,
    include_last_offset: bool = False,
    **attributes: object,
) -> Lengths:
    """Raises a ValueError unless indices have two dims, or they and offsets one."""
    bags, *others = indices if offsets is None else offsets
    if len(others) != (offsets is None) or (offsets is not None and len(indices) != 1):
        raise ValueError(f"indices of shape {indices} with offsets of shape {offsets}")
    last = offsets is not None and include_last_offset
    return (bags - 1 if last else bags, weight[1])


def joint_shape(*operands: Lengths | float | None) -> Lengths | None:
    """Of operands that broadcast, some of which may be numbers. None where one's rank is not known."""
    shape: Lengths = ()
    for lengths in operands:
        if lengths is None:
            return None
        shape = broadcast_shape(shape, lengths) if isinstance(lengths, tuple) else shape
    return shape


def arange_shape(*, start: Length, end: Length, step: Length) -> Lengths:
    count = -((start - end) // step)
    return (max(count, 0) if isinstance(count, int) else count,)


def _arange_uncovered(*, step: Any, **attributes: Any) -> str | None:
    return None if isinstance(step, int) else "its step depends on a size"


def full_shape(shape: Sequence[Length], **attributes: Any) -> Lengths:
    return tuple(shape)


def argmax_shape(x: Lengths, *, dim: int, keepdim: bool) -> Lengths:
    at = range(len(x))[dim]
    return (*x[:at], *((1,) if keepdim else ()), *x[at + 1 :])


def gather_shape(x: Lengths, index: Lengths, *, dim: int) -> Lengths:
    return index


def take_shape(x: Lengths, indices: Sequence[Lengths | None]) -> Lengths | None:
    taken = joint_shape(*indices)
    return None if taken is None else (*taken, *x[len(indices) :])


# ---------------------------------------------------------------- rows


def _row(fn: Function, tensors: Sequence[str], shape: Function = same_shape, **cells: Any) -> Op:
    cells = {"integer": partial(integer.as_is, fn), "family": fn.__name__, "floats": "fn", "any_rank": True, **cells}
    return Op(fn.__name__, fn, tuple(tensors), "float", shape=shape, **cells)


def _comparison(fn: Function) -> Op:
    return _row(fn, ("x", "y"), joint_shape, dtype=torch.bool, family="pairwise")


def _of_whole(fn: Function, **cells: Any) -> Op:
    return _row(fn, ("x", "y"), broadcast_shape, family="pairwise", **cells)


ROWS = with_samples(
    samples.GOOD,
    samples.BAD,
    _row(
        reference.embedding, (), embedding_shape, weights=("weight",), integers=("indices",), looks_up=True,
        dtype=torch.float32, integer=integer.embedding,
    ),
    _row(
        reference.embedding_bag, ("per_sample_weights",), embedding_bag_shape, weights=("weight",),
        integers=("indices", "offsets"), looks_up=True, dtype=torch.float32, integer=integer.embedding_bag,
        floats="integer", kernels="index: BagFloats BagHalves BagBrains BagBytes BagNibbles",
    ),
    _row(reference.cast, ("x",)),
    *map(_comparison, (reference.eq, reference.ne, reference.lt, reference.le, reference.gt, reference.ge)),
    _of_whole(reference.logical_and, dtype=torch.bool, of_truth="and"),
    _of_whole(reference.logical_or, dtype=torch.bool, of_truth="or"),
    _of_whole(reference.logical_xor, dtype=torch.bool, of_truth="xor"),
    _row(reference.logical_not, ("x",), dtype=torch.bool, family="pairwise"),
    _of_whole(reference.minimum, keeps_dtype=True),
    _of_whole(reference.maximum, keeps_dtype=True),
    _row(reference.where, ("condition", "x", "y"), joint_shape),
    _row(
        reference.arange, (), arange_shape, dtype=torch.int64, computed=("start", "end", "step"),
        uncovered=_arange_uncovered,
    ),
    _row(reference.full, (), full_shape, family="expand"),
    _row(reference.cumsum, ("x",), dtype=torch.int64),
    _row(reference.argmax, ("x",), argmax_shape, dtype=torch.int64),
    _row(reference.gather, ("x", "index"), gather_shape, keeps_dtype=True),
    _row(reference.take, ("x", "indices"), take_shape, keeps_dtype=True),
)  # fmt: skip
