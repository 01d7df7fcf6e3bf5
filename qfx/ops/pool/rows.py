"""The rows of pools, reductions and interpolation, and the shapes of their results."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from qfx.ops.compute.rows import window
from qfx.ops.dims import Dim, Length, Lengths, applied
from qfx.ops.pool import integer, reference, samples
from qfx.ops.table import Function, Op, with_samples


def pool_shape(
    x: Lengths,
    *,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    dilation: Sequence[int] | None = None,
    **attributes: Any,
) -> Lengths:
    """Of ``[N, C, *spatial]`` or ``[C, *spatial]``."""
    spatial = _spatial(x, len(kernel))
    reach = [d * (k - 1) + 1 for d, k in zip(dilation or (1,) * spatial, kernel, strict=True)]
    fit = partly if ceil_mode else window
    sizes = [fit(n, r, 2 * p, s) for n, r, p, s in zip(x[-spatial:], reach, padding, stride, strict=True)]
    return (*x[:-spatial], *sizes)


def partly(length: Length, reach: int, padding: int, stride: int) -> Length:
    """How often a window fits in part: as torch counts, one that begins behind the value and its padding is none."""
    if stride == 1:
        return window(length, reach, padding, stride)
    if isinstance(length, Dim):
        return applied(partly, length, reach, padding, stride)
    count = -((reach - padding - length) // stride) + 1
    return count - ((count - 1) * stride >= length + padding // 2)


def adaptive_shape(x: Lengths, *, output_size: Sequence[int | None]) -> Lengths:
    """Of ``[N, C, *spatial]`` or ``[C, *spatial]``; None keeps a length."""
    spatial = _spatial(x, len(output_size))
    kept = zip(x[-spatial:], output_size, strict=True)
    return (*x[:-spatial], *(old if new is None else new for old, new in kept))


def _spatial(x: Lengths, spatial: int) -> int:
    if len(x) not in (spatial + 1, spatial + 2):
        raise ValueError(f"a pool over {spatial} dims of a value of rank {len(x)}")
    return spatial


def reduction_shape(x: Lengths, *, dims: Sequence[int] | None, keepdim: bool) -> Lengths:
    """Without ``dims``, or without any where none is named; with ``keepdim`` they are 1."""
    gone = {range(len(x))[dim] for dim in dims} if dims else set(range(len(x)))
    if keepdim:
        return tuple(1 if dim in gone else length for dim, length in enumerate(x))
    return tuple(length for dim, length in enumerate(x) if dim not in gone)


def interpolate_shape(x: Lengths, *, size: Any, scale_factor: Any, **attributes: Any) -> Lengths:
    """Of ``[N, C, *spatial]``."""
    spatial = len(x) - 2
    if not 1 <= spatial <= 3:
        raise ValueError(f"resampling of a value of rank {len(x)}")
    if size is not None:
        return (*x[:2], *_each(size, spatial))
    return (*x[:2], *map(scaled, x[2:], _each(scale_factor, spatial)))


def _each(value: Any, count: int) -> tuple[Any, ...]:
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * count
    if len(values) != count:
        raise ValueError(f"{len(values)} sizes for {count} dims")
    return values


def scaled(length: Length, factor: float) -> Length:
    """``floor(length * factor)``."""
    if isinstance(length, Dim):
        return length * int(factor) if factor == int(factor) else applied(scaled, length, factor)
    return math.floor(length * factor)


# ---------------------------------------------------------------- rows

_MAXIMUM, _AVERAGE = "pool: MaxWindow", "pool: AverageWindow"


def _uncovered_interpolation(*, mode: str, **attributes: object) -> str | None:
    covered = mode in ("nearest", "linear", "bilinear", "trilinear")
    return None if covered else f"{mode} interpolation is computed in float"


def _pool(fn: Function, exact: Function, shape: Function, **cells: Any) -> Op:
    cells = {"qparams": "share", "layout": "image", "family": fn.__name__, **cells}
    return Op(fn.__name__, fn, ("x",), shape=shape, integer=exact, floats="integer", **cells)


def _is_unit_window(
    *, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], divisor_override: int | None = None,
    **attributes: object,
) -> bool:  # fmt: skip
    return {*kernel, *stride} == {1} and not any(padding) and divisor_override in (None, 1)


def _window(fn: Function, exact: Function, **cells: Any) -> Op:
    return _pool(fn, exact, pool_shape, any_rank=True, does_nothing=_is_unit_window, **cells)


def _reduction(fn: Function, exact: Function, **cells: Any) -> Op:
    return _pool(fn, exact, reduction_shape, layout=None, reduces=True, follows_layout=False, **cells)


ROWS = with_samples(
    samples.GOOD,
    samples.BAD,
    _window(reference.max_pool, integer.max_pool, kernels=_MAXIMUM),
    _window(reference.avg_pool, integer.avg_pool, rounds=True, kernels=_AVERAGE),
    _pool(
        reference.adaptive_avg_pool, integer.adaptive_avg_pool, adaptive_shape, any_rank=True, rounds=True,
        kernels=_AVERAGE,
    ),
    _pool(
        reference.adaptive_max_pool, integer.adaptive_max_pool, adaptive_shape, any_rank=True, kernels=_MAXIMUM
    ),
    _pool(
        reference.interpolate, integer.interpolate, interpolate_shape, uncovered=_uncovered_interpolation,
        computed=("size",), rounds=True, kernels="pool: Linear LinearExact",
    ),
    _reduction(
        reference.mean, integer.mean, qparams="own", any_rank=True, keeps_range=True, kernels=f"{_AVERAGE} Sum"
    ),
    replace(
        _reduction(
            reference.sum_, integer.sum_, qparams="own", family="mean", keeps_dtype=True, by_lengths=True,
            kernels=f"{_AVERAGE} Sum",
        ),
        name="sum",
    ),
    _reduction(reference.amax, integer.amax, family="adaptive_max_pool", kernels=_MAXIMUM),
)  # fmt: skip
