"""The steps in numpy, straight from their definitions; float32 operations are rounded one by one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

F = np.float32


def requantize(v: np.ndarray, zero_point: int, lo: int = 0, hi: int = 255) -> NDArray[np.uint8]:
    assert v.dtype == F
    return np.clip(np.rint(np.clip(v, -65536, 65536)).astype(np.int64) + zero_point, lo, hi).astype(np.uint8)


def quantize(x: np.ndarray, perm: Sequence[int], scale: float, zero_point: int) -> NDArray[np.uint8]:
    q = np.rint(x.transpose(perm).astype(np.float64) / float(F(scale))) + zero_point
    return np.clip(q, 0, 255).astype(np.uint8)


def dequantize(q: np.ndarray, perm: Sequence[int], scale: float, zero_point: int) -> NDArray[np.float32]:
    return (q.transpose(perm).astype(np.int64) - zero_point).astype(F) * F(scale)


def conv_acc(
    x: np.ndarray,
    w: np.ndarray,
    bias: np.ndarray,
    x_zero_point: int,
    *,
    stride: Sequence[int],
    lo: Sequence[int],
    hi: Sequence[int],
    dilation: Sequence[int],
    groups: int = 1,
    w_zero_point: np.ndarray | None = None,
) -> NDArray[np.int64]:
    """[N, out..., O] of exact sums; ``x`` [N, in..., C], ``w`` [O, k..., C / groups]."""
    c_out, *kernel, _ = w.shape
    a = np.pad(x.astype(np.int64) - x_zero_point, [(0, 0), *zip(lo, hi, strict=True), (0, 0)])
    weight = w.astype(np.int64) - (0 if w_zero_point is None else w_zero_point.reshape(-1, *[1] * (w.ndim - 1)))
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    out = [(n - r) // s + 1 for n, r, s in zip(a.shape[1:-1], reach, stride, strict=True)]
    acc = np.zeros((x.shape[0], *out, c_out), np.int64) + bias
    for tap in itertools.product(*map(range, kernel)):
        window = tuple(
            slice(t * d, t * d + (o - 1) * s + 1, s) for t, d, o, s in zip(tap, dilation, out, stride, strict=True)
        )
        part = a[(slice(None), *window)]
        for g, (px, pw) in enumerate(zip(np.split(part, groups, -1), np.split(weight, groups), strict=True)):
            n = c_out // groups
            acc[..., g * n : (g + 1) * n] += px @ pw[(slice(None), *tap)].T
    return acc


def windows(
    x: np.ndarray, kernel: Sequence[int], stride: Sequence[int], lo: Sequence[int], hi: Sequence[int]
) -> Callable[[Callable[[np.ndarray], np.ndarray]], np.ndarray]:
    """Applies a reduction [N, taps, C] -> [N, C] to each window of [N, in..., C]; padding is NaN."""
    a = np.pad(x.astype(np.float64), [(0, 0), *zip(lo, hi, strict=True), (0, 0)], constant_values=math.nan)
    out = [(n - k) // s + 1 for n, k, s in zip(a.shape[1:-1], kernel, stride, strict=True)]

    def apply(reduce: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        y = np.zeros((x.shape[0], *out, x.shape[-1]))
        for at in itertools.product(*map(range, out)):
            part = a[(slice(None), *(slice(i * s, i * s + k) for i, s, k in zip(at, stride, kernel, strict=True)))]
            y[(slice(None), *at)] = reduce(part.reshape(x.shape[0], -1, x.shape[-1]))
        return y

    return apply


def average(total: np.ndarray, count: int, ratio: float, zero_point: int) -> NDArray[np.uint8]:
    """``total``: sums of x - x_zero_point."""
    return requantize(total.astype(F) * F(ratio / count), zero_point)
