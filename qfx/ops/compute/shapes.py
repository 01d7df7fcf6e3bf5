"""Shapes of the results of layers, products and arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qfx.ops.dims import Length, Lengths, applied


def window(length: Length, reach: Length, padding: int, stride: int) -> Length:
    """How often a window fits: ``(length + padding - reach) // stride + 1``."""
    return (length + padding - reach) // stride + 1


def conv(
    x: Lengths,
    weight: Lengths,
    *operands: Any,
    stride: Sequence[int],
    padding: Sequence[Sequence[int]],
    dilation: Sequence[int],
    **attributes: Any,
) -> Lengths:
    """Of ``[N, C, *spatial]`` or ``[C, *spatial]``."""
    spatial = len(stride)
    if len(x) not in (spatial + 1, spatial + 2):
        raise ValueError(f"a convolution over {spatial} dims of a value of rank {len(x)}")
    sizes = [
        window(length, d * (k - 1) + 1, sum(p), s)
        for length, k, s, p, d in zip(x[-spatial:], weight[2:], stride, padding, dilation, strict=True)
    ]
    return (*x[: -spatial - 1], weight[0], *sizes)


def linear(x: Lengths, weight: Lengths, *operands: Any, **attributes: Any) -> Lengths:
    if not x:
        raise ValueError("a linear layer of a number")
    return (*x[:-1], weight[0])


def channel_affine(x: Lengths, weight: Lengths, *operands: Any, **attributes: Any) -> Lengths:
    return (x[0], joint_length(x[1], weight[0]), *x[2:])


def joint_length(a: Length, b: Length) -> Length:
    """The length of a dim in which two operands are broadcast against each other."""
    if b in (a, 1):
        return a
    if a == 1:
        return b
    known = [length for length in (a, b) if isinstance(length, int)]
    return max(known) if known else applied(joint_length, *sorted((a, b), key=str))


def broadcast(x: Lengths, y: Lengths, **attributes: Any) -> Lengths:
    rank = max(len(x), len(y))
    x, y = (1,) * (rank - len(x)) + x, (1,) * (rank - len(y)) + y
    return tuple(map(joint_length, x, y))


def matmul(x: Lengths, y: Lengths, **attributes: Any) -> Lengths:
    """As ``torch.matmul``: a vector is a matrix of one row or column, which the result does not have."""
    rows, columns = x[-2:-1], y[-1:] if len(y) > 1 else ()
    if not x or not y:
        raise ValueError("a product of numbers")
    return (*broadcast(x[:-2], y[:-2]), *rows, *columns)
