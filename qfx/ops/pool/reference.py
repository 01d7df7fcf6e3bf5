"""Float references of the ops that reduce or resample windows: pools, mean, sum, maximum, interpolate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from qfx.errors import InputError

_ByRank: TypeAlias = Mapping[int, Callable[..., Tensor]]
_MAX_POOL: _ByRank = {1: torch.max_pool1d, 2: torch.max_pool2d, 3: torch.max_pool3d}
_AVG_POOL: _ByRank = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
_ADAPTIVE_AVG_POOL: _ByRank = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}
_ADAPTIVE_MAX_POOL: _ByRank = {1: F.adaptive_max_pool1d, 2: F.adaptive_max_pool2d, 3: F.adaptive_max_pool3d}


def max_pool(
    x: Tensor,
    *,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
) -> Tensor:
    """Maximum over windows of the last ``len(kernel)`` dims; padding never wins."""
    _check_window(x, kernel, stride, padding, dilation)
    return _MAX_POOL[len(kernel)](x, list(kernel), list(stride), list(padding), list(dilation), ceil_mode)


def avg_pool(
    x: Tensor,
    *,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Tensor:
    """Mean over windows of the last ``len(kernel)`` dims, or their sum over ``divisor_override``."""
    _check_window(x, kernel, stride, padding)
    window: tuple[object, ...] = (list(kernel), list(stride), list(padding), ceil_mode, count_include_pad)
    if divisor_override is None:
        return _AVG_POOL[len(kernel)](x, *window)
    if len(kernel) > 1:
        return _AVG_POOL[len(kernel)](x, *window, divisor_override)
    window = ([1, *kernel], [1, *stride], [0, *padding], ceil_mode, count_include_pad)
    return _AVG_POOL[2](x.unsqueeze(-2), *window, divisor_override).squeeze(-2)


def adaptive_avg_pool(x: Tensor, *, output_size: Sequence[int | None]) -> Tensor:
    """Mean over windows ``[floor(i * in / out), ceil((i + 1) * in / out))``; None keeps the input's size."""
    size = _resolve_output_size(x, output_size)
    return _ADAPTIVE_AVG_POOL[len(size)](x, size)


def adaptive_max_pool(x: Tensor, *, output_size: Sequence[int | None]) -> Tensor:
    """Maximum over the windows of :func:`adaptive_avg_pool`."""
    size = _resolve_output_size(x, output_size)
    return _ADAPTIVE_MAX_POOL[len(size)](x, size)


def mean(x: Tensor, *, dims: Sequence[int] | None, keepdim: bool) -> Tensor:
    """Mean over ``dims``, or over all dims when there are none."""
    return torch.mean(x, dim=list(dims) if dims else None, keepdim=keepdim)


def sum_(x: Tensor, *, dims: Sequence[int] | None, keepdim: bool) -> Tensor:
    """Sum over ``dims``, or over all dims when there are none."""
    return torch.sum(x, dim=list(dims) if dims else None, keepdim=keepdim)


def amax(x: Tensor, *, dims: Sequence[int] | None, keepdim: bool) -> Tensor:
    """Maximum over ``dims``, or over all dims when there are none."""
    return torch.amax(x, dim=list(dims) if dims else (), keepdim=keepdim)


def interpolate(
    x: Tensor,
    *,
    size: int | Sequence[int] | None,
    scale_factor: float | Sequence[float] | None,
    mode: str,
    align_corners: bool | None,
) -> Tensor:
    """Resampling of the spatial dims of ``[N, C, *spatial]`` as ``torch.nn.functional.interpolate``."""
    size = list(size) if isinstance(size, (tuple, list)) else size
    scale_factor = list(scale_factor) if isinstance(scale_factor, (tuple, list)) else scale_factor
    return F.interpolate(x, size, scale_factor, mode, align_corners)


def _check_window(x: Tensor, kernel: Sequence[int], *others: Sequence[int]) -> None:
    spatial = len(kernel)
    if not 1 <= spatial <= 3 or any(len(other) != spatial for other in others):
        raise InputError(
            f"A pool with kernel {tuple(kernel)} got window arguments {[tuple(other) for other in others]}.",
            remedy="Give one int a spatial dim, 1 to 3 of them.",
        )
    if x.dim() not in (spatial + 1, spatial + 2):
        raise InputError(
            f"A pool over {spatial} spatial dims got an input of rank {x.dim()}.",
            remedy=f"Pass [N, C, ...] with {spatial} spatial dims.",
        )


def _resolve_output_size(x: Tensor, output_size: Sequence[int | None]) -> list[int]:
    spatial = len(output_size)
    if not 1 <= spatial <= 3 or x.dim() not in (spatial + 1, spatial + 2):
        raise InputError(
            f"An adaptive pool to {tuple(output_size)} got an input of rank {x.dim()}.",
            remedy="Pass [N, C, ...] with one spatial dim, of 1 to 3, an entry of output_size.",
        )
    return [x.shape[i - spatial] if size is None else size for i, size in enumerate(output_size)]
