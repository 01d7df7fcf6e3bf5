"""Float references of the ops that only move elements, and ``size``, which reads a dim.

Entries of shapes, starts and ends are ints, or in a graph the nodes that compute them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from qfx.errors import InputError


def size(x: Tensor, *, dim: int) -> int:
    """The length of ``dim``."""
    return x.size(dim)


def cat(tensors: Sequence[Tensor], *, dim: int) -> Tensor:
    """Concatenation along an existing dim."""
    return torch.cat(list(tensors), dim)


def stack(tensors: Sequence[Tensor], *, dim: int) -> Tensor:
    """Concatenation along a new dim."""
    return torch.stack(list(tensors), dim)


def pixel_shuffle(x: Tensor, *, factor: int) -> Tensor:
    """``[..., C * r * r, H, W]`` to ``[..., C, H * r, W * r]``."""
    return F.pixel_shuffle(x, factor)


def pixel_unshuffle(x: Tensor, *, factor: int) -> Tensor:
    """``[..., C, H * r, W * r]`` to ``[..., C * r * r, H, W]``."""
    return F.pixel_unshuffle(x, factor)


def channel_shuffle(x: Tensor, *, groups: int) -> Tensor:
    """``[N, g * c, ...]`` with channels reordered from ``(g, c)`` to ``(c, g)``."""
    if x.dim() < 3 or x.shape[1] % groups:
        raise InputError(
            f"channel_shuffle needs [N, C, ...] with C divisible by {groups}, got {tuple(x.shape)}.",
            remedy="Choose a number of groups that divides the channels.",
        )
    shape = x.shape
    return x.reshape(shape[0], groups, shape[1] // groups, *shape[2:]).transpose(1, 2).reshape(shape)


def pad(x: Tensor, *, pad: Sequence[int], mode: str, value: float | None) -> Tensor:
    """Padding in torch's order: ``(low, high)`` of the last dim first. Negative amounts crop."""
    return F.pad(x, list(pad), mode, value)


def reshape(x: Tensor, shape: Sequence[int]) -> Tensor:
    """The same elements in row-major order; one entry may be -1."""
    return x.reshape(tuple(shape))


def flatten(x: Tensor, *, start_dim: int, end_dim: int) -> Tensor:
    """Dims ``start_dim..end_dim`` merged into one."""
    return x.flatten(start_dim, end_dim)


def permute(x: Tensor, *, dims: Sequence[int]) -> Tensor:
    """Result dim ``i`` is ``dims[i]`` of ``x``."""
    return x.permute(tuple(dims))


def transpose(x: Tensor, *, dim0: int, dim1: int) -> Tensor:
    """Two dims exchanged."""
    return x.transpose(dim0, dim1)


def dropout(x: Tensor) -> Tensor:
    """``x``: what a dropout does outside training, where a module of the model takes this op's place."""
    return x


def slice_(x: Tensor, *, dim: int, start: int | None, end: int | None, step: int) -> Tensor:
    """``x[start:end:step]`` along ``dim`` with Python's meaning of negative and past-end bounds; ``step > 0``."""
    if not -x.dim() <= dim < x.dim():
        raise InputError(
            f"slice along dim {dim} of a tensor of rank {x.dim()}.",
            remedy=f"Slice a dim from {-x.dim()} to {x.dim() - 1}.",
        )
    if step < 1:
        raise InputError(f"slice with step {step}.", why="Tensors have no negative strides.", remedy="Use flip.")
    return x[(slice(None),) * (dim % x.dim()) + (slice(start, end, step),)]


def select(x: Tensor, *, dim: int, index: int) -> Tensor:
    """Position ``index`` of ``dim``, which disappears."""
    return x.select(dim, index)


def squeeze(x: Tensor, *, dim: int | Sequence[int] | None = None) -> Tensor:
    """Without the dims of length 1 among ``dim``, or among all."""
    if dim is None:
        return x.squeeze()
    return x.squeeze(dim if isinstance(dim, int) else tuple(dim))


def unsqueeze(x: Tensor, *, dim: int) -> Tensor:
    """With a new dim of length 1."""
    return x.unsqueeze(dim)


def expand(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Dims of length 1 repeated to ``shape``; -1 keeps a dim."""
    return x.expand(tuple(shape))


def windows(
    x: Tensor, *, dims: Sequence[int], size: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> Tensor:
    """Windows that slide along ``dims``: there, how many fit; the elements of each in as many dims at the end."""
    reaches = [(length - 1) * apart + 1 for length, apart in zip(size, dilation, strict=True)]
    if isinstance(x, Tensor):  # and nothing that is traced
        _require_room(x, dims, reaches)
    for done, (dim, reach, step, apart) in enumerate(zip(dims, reaches, stride, dilation, strict=True)):
        x = x.unfold(dim if dim >= 0 else dim - done, reach, step)
        x = x if apart == 1 else x[..., ::apart]
    return x


def _require_room(x: Tensor, dims: Sequence[int], reaches: Sequence[int]) -> None:
    for dim, reach in zip(dims, reaches, strict=True):
        if not -x.dim() <= dim < x.dim() or reach > x.shape[dim]:
            raise InputError(
                f"a window of {reach} along dim {dim} of a tensor of shape {tuple(x.shape)}.",
                remedy="Choose a dim that is as long as the window.",
            )
