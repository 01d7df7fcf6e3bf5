"""The rows of ops that move elements, and the shapes of their results. Entries of shapes and starts are lengths too."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from qfx.ops.dims import Dim, Length, Lengths, applied
from qfx.ops.shape import integer, reference, samples
from qfx.ops.table import Function, Op, same_shape, with_samples

_Partial = Sequence[Length | None]
"""A shape of which None is not known."""


def cat_shape(tensors: Sequence[Lengths | None], *, dim: int) -> _Partial | None:
    """Of operands of one rank, of which one at least is known. Torch joins those of shape ``[0]`` with any."""
    known = [lengths for lengths in tensors if lengths is not None]
    joined = [lengths for lengths in known if lengths != (0,)] or known
    if not joined:
        return None
    result: list[Length | None] = list(joined[0])
    axis = range(len(result))[dim]
    result[axis] = None if None in tensors else sum(lengths[axis] for lengths in joined)
    return result


def stack_shape(tensors: Sequence[Lengths | None], *, dim: int) -> Lengths | None:
    """As :func:`cat_shape`."""
    first = next((lengths for lengths in tensors if lengths is not None), None)
    return None if first is None else _inserted(first, dim, len(tensors))


def _inserted(x: Lengths, dim: int, length: Length) -> Lengths:
    at = range(len(x) + 1)[dim]
    return (*x[:at], length, *x[at:])


def pad_shape(x: Lengths, *, pad: Sequence[int], **attributes: Any) -> Lengths:
    if len(pad) > 2 * len(x):
        raise ValueError(f"padding of {len(pad) // 2} dims of a value of rank {len(x)}")
    amounts = [pad[i] + pad[i + 1] for i in range(0, len(pad), 2)]
    padded = [*amounts, *[0] * (len(x) - len(amounts))]
    return tuple(length + amount for length, amount in zip(x, reversed(padded), strict=True))


def pixel_shuffle_shape(x: Lengths, *, factor: int) -> Lengths:
    return (*x[:-3], x[-3] // factor**2, x[-2] * factor, x[-1] * factor)


def pixel_unshuffle_shape(x: Lengths, *, factor: int) -> Lengths:
    return (*x[:-3], x[-3] * factor**2, x[-2] // factor, x[-1] // factor)


def permute_shape(x: Lengths, *, dims: Sequence[int]) -> Lengths:
    if len(dims) != len(x):
        raise ValueError(f"a permutation of {len(dims)} dims of a value of rank {len(x)}")
    return tuple(x[dim] for dim in dims)


def transpose_shape(x: Lengths, *, dim0: int, dim1: int) -> Lengths:
    lengths = list(x)
    lengths[dim0], lengths[dim1] = lengths[dim1], lengths[dim0]
    return tuple(lengths)


def reshape_shape(x: Lengths, shape: Sequence[Length]) -> _Partial:
    if -1 not in shape:
        return tuple(shape)
    given = math.prod(entry for entry in shape if entry != -1)
    rest = None if given == 0 else math.prod(x) // given
    return [rest if entry == -1 else entry for entry in shape]


def flatten_shape(x: Lengths, *, start_dim: int, end_dim: int) -> Lengths:
    first, last = (range(max(len(x), 1))[dim] for dim in (start_dim, end_dim))
    return (*x[:first], math.prod(x[first : last + 1]), *x[last + 1 :])


def squeeze_shape(x: Lengths, *, dim: int | Sequence[int] | None = None) -> Lengths | None:
    """None where a length that is not known decides."""
    named = range(len(x)) if dim is None else [dim] if isinstance(dim, int) else dim
    asked = {range(len(x))[d] for d in named} if x else set()
    if any(isinstance(x[d], Dim) for d in asked):
        return None
    return tuple(length for d, length in enumerate(x) if d not in asked or length != 1)


def unsqueeze_shape(x: Lengths, *, dim: int) -> Lengths:
    return _inserted(x, dim, 1)


def slice_shape(x: Lengths, *, dim: int, start: Length | None, end: Length | None, step: int) -> Lengths:
    at = range(len(x))[dim]
    return (*x[:at], sliced(x[at], start, end, step), *x[at + 1 :])


def sliced(length: Length, start: Length | None, end: Length | None, step: int) -> Length:
    """How many of ``length`` positions ``start:end:step`` has."""
    if start in (None, 0) and end is None and step == 1:
        return length
    if any(isinstance(value, Dim) for value in (length, start, end)):
        return applied(sliced, length, start, end, step)
    return len(range(length)[slice(start, end, step)])  # type: ignore[arg-type]


def select_shape(x: Lengths, *, dim: int, index: Length) -> Lengths:
    at = range(len(x))[dim]
    return (*x[:at], *x[at + 1 :])


def expand_shape(x: Lengths, shape: Sequence[Length]) -> Lengths:
    """An entry of -1 keeps a length."""
    if -1 not in shape:
        return tuple(shape)
    more = len(shape) - len(x)
    return tuple(x[i - more] if entry == -1 else entry for i, entry in enumerate(shape))


def windows_shape(
    x: Lengths, *, dims: Sequence[int], size: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> Lengths:
    lengths = list(x)
    for dim, length, step, apart in zip(dims, size, stride, dilation, strict=True):
        lengths[dim] = (lengths[dim] - ((length - 1) * apart + 1)) // step + 1
    return (*lengths, *size)


# ---------------------------------------------------------------- rows


def _join(fn: Function, shape: Function, **cells: Any) -> Op:
    exact = partial(integer.join, fn)
    return Op(fn.__name__, fn, ("tensors",), "share", shape=shape, integer=exact, family="concat", floats="fn", **cells)


def _move(fn: Function, family: str, shape: Function = same_shape, **cells: Any) -> Op:
    cells = {"integer": partial(integer.move, fn), **cells}
    return Op(fn.__name__, fn, ("x",), "share", shape=shape, family=family, floats="fn", **cells)


def _pads_nothing(*, pad: Sequence[int], **attributes: object) -> bool:
    return not any(pad)


def _permutation(fn: Function, shape: Function = same_shape, **cells: Any) -> Op:
    return _move(fn, "permute", shape, kernels="move: TransposeU8 TransposeU32", **cells)


def _view(fn: Function, shape: Function, **cells: Any) -> Op:
    return _move(fn, "reshape", shape, follows_layout=False, **cells)


ROWS = with_samples(
    samples.GOOD,
    samples.BAD,
    _join(reference.cat, cat_shape),
    _join(reference.stack, stack_shape, follows_layout=False),
    _move(reference.pad, "pad", pad_shape, integer=integer.pad, any_rank=True, does_nothing=_pads_nothing),
    _permutation(reference.pixel_shuffle, pixel_shuffle_shape, layout="image"),
    _permutation(reference.pixel_unshuffle, pixel_unshuffle_shape, layout="image"),
    _permutation(reference.channel_shuffle, layout="image", splits_a_dim=True),
    _permutation(reference.permute, permute_shape, layout="rows"),
    _permutation(reference.transpose, transpose_shape),
    _view(reference.reshape, reshape_shape, layout="rows"),
    _view(reference.flatten, flatten_shape, layout="rows"),
    _view(reference.squeeze, squeeze_shape, by_lengths=True),
    _view(reference.unsqueeze, unsqueeze_shape),
    replace(_move(reference.slice_, "slice", slice_shape, computed=("start", "end")), name="slice"),
    _move(reference.select, "slice", select_shape, computed=("index",), follows_layout=False),
    _move(reference.expand, "expand", expand_shape, follows_layout=False),
    _move(reference.windows, "windows", windows_shape, follows_layout=False),
    _move(reference.dropout, "reshape"),
    Op("size", reference.size, ("x",), "none", shape=None),
)
