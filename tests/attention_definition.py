"""Attention as the runtime's step computes it, in numpy, from its definition; float32 operations are rounded singly.

A restatement for tests: the kernels must equal it bit for bit.
"""

from __future__ import annotations

import numpy as np

F = np.float32
BLOCK = 32
INFINITY = F(np.inf)
EXP2 = (0.009582854807376862, 0.05590642988681793, 0.24024099111557007, 0.6931241750717163, 1.0)
LOG2 = (0.2526611089706421, -0.3945755064487457, 0.4866860508918762, -0.7202417850494385, 1.4425779581069946)
ROOT_OF_HALF = np.int32(0x3F3504F3)


def horner(x: np.ndarray, coefficients: tuple[float, ...]) -> np.ndarray:
    value = np.full_like(x, F(coefficients[0]))
    for c in coefficients[1:]:
        value = value * x + F(c)
    return value


def exp2(t: np.ndarray) -> np.ndarray:
    """2^t for t up to 8; 0 from -126.5 down, and of NaN."""
    t = np.where(t > F(-127), t, F(-127))
    n = np.rint(t)
    return horner(t - n, EXP2) * np.where(n > -127, np.ldexp(F(1), np.maximum(n, -126).astype(np.int32)), F(0))


def log2(v: np.ndarray) -> np.ndarray:
    """Of positive normal numbers, whose mantissas are brought to [sqrt(1/2), sqrt(2))."""
    exponent = (v.view(np.int32) - ROOT_OF_HALF) >> 23
    z = np.ldexp(v, -exponent) - F(1)
    return exponent.astype(F) + horner(z, LOG2) * z


def coded(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes of each row, its scale, and whether it is finite."""
    finite = np.isfinite(x).all(-1)
    x = np.where(finite[..., None], x, F(0))
    size = np.maximum(np.abs(x).max(-1, initial=0), F(2.0**-60)).astype(F)
    return np.rint(x * (F(127) / size)[..., None]), size / F(127), finite


def dots(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Exact sums of products of codes, as float32."""
    return (a.astype(np.float64) @ b.astype(np.float64)).astype(F)


def offsets(mask: np.ndarray | None, causal: bool, shape: tuple[int, ...]) -> np.ndarray:
    """What is added to each score."""
    if mask is None:
        m = np.zeros(shape, F)
    elif mask.dtype == bool:
        m = np.where(mask, F(0), -INFINITY)
    else:
        m = np.where(mask == -INFINITY, -INFINITY, np.maximum(mask * F(1.44269504), -np.finfo(F).max))
        m = np.where(np.isnan(mask), INFINITY, m)
    m = np.broadcast_to(m, shape)
    return np.where(np.tri(*shape[-2:], dtype=bool), m, -INFINITY) if causal else m


def scores(x: np.ndarray, m: np.ndarray, log_scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the exponential is taken of, and which rows have something to see; NaN counts as -infinity."""
    e = x + (m + log_scale)
    most = np.fmax.reduce(e, -1, keepdims=True, initial=-INFINITY)
    greatest = np.fmax.reduce(x + m, -1, keepdims=True, initial=-INFINITY)
    flat = np.where(x + m == greatest, np.broadcast_to(log_scale, e.shape), -INFINITY)
    e = np.where((most < F(-(2.0**100))) & (most > -INFINITY), flat, e)
    return np.where(np.isnan(e), -INFINITY, e), most[..., 0] > -INFINITY


def attention(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    mask: np.ndarray | None = None,
    *,
    factor: float,
    causal: bool = False,
) -> np.ndarray:
    """``q`` [B, H, L, D], ``k`` [B, G, S, D], ``v`` [B, G, S, E], all float32; ``mask`` broadcasts to [B, H, L, S]."""
    if k.shape[2] == 0:
        return np.zeros((*q.shape[:-1], v.shape[-1]), F)
    k, v = (np.repeat(t, q.shape[1] // max(t.shape[1], 1), 1) for t in (k, v))
    with np.errstate(all="ignore"):
        (qc, qs, q_finite), (kc, ks, k_finite), (vc, vs, v_finite) = coded(q), coded(k), coded(v)
        x = (dots(qc, kc.swapaxes(-1, -2)) * ks[..., None, :]) * (qs * F(factor))[..., None]
        e, seen = scores(x, offsets(mask, causal, x.shape), log2(vs)[..., None, :])
        y = joined(e, vc, F(1) / vs)
    y = np.where(seen[..., None], y, F(0))
    finite = q_finite & k_finite.all(-1, keepdims=True) & v_finite.all(-1, keepdims=True)
    return np.where(finite[..., None], y, F(np.nan))


def joined(e: np.ndarray, codes: np.ndarray, reciprocal: np.ndarray) -> np.ndarray:
    """The values by their weights, a block of keys after the other."""
    starts = range(0, e.shape[-1], BLOCK)
    most = [e[..., b : b + BLOCK].max(-1, keepdims=True) for b in starts]
    greatest = np.max(most, 0)
    y, den = np.zeros((*e.shape[:-1], codes.shape[-1]), F), np.zeros((*e.shape[:-1], 1), F)
    for b, top in zip(starts, most, strict=True):
        u = exp2((e[..., b : b + BLOCK] - top) + F(7.99435344))
        total = np.zeros_like(top)
        for j in range(u.shape[-1]):
            total = total + u[..., j : j + 1] * reciprocal[..., None, b + j : b + j + 1]
        share = exp2(top - greatest)
        den = den + total * share
        y = y + dots(np.rint(u), codes[..., b : b + BLOCK, :]) * share
    return y * (F(1) / den)
