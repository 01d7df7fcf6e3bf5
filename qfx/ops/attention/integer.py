"""The exact meaning of attention on integers.

Every operation is float32, rounded on its own, unless it is on integers. docs/numerics.md says why.
"""

from __future__ import annotations

import math
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 32
"""Keys whose probabilities are rounded against one maximum."""

_LOG2_E = 1.4426950408889634
_LEAST = torch.finfo(torch.float32).min
_LEAST_MAGNITUDE = 2.0**-60
_ALL_MASKED = -(2.0**100)


def by_rows(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *, scale: float, causal: bool
) -> Tensor:  # fmt: skip
    """Attention on 8-bit integers: each query, key and value has a scale of its own, chosen from its entries.

    Scores and the products with values are exact sums. Probabilities are integers up to 255, relative to the largest
    of their block of :data:`BLOCK` keys, with the scale of the key's value folded in before they are rounded; the
    denominator is not rounded and takes it out again.

    A query with NaN or an infinity gives a row of NaN; a key or value with one, NaN everywhere in its head. Where every
    key is masked by -inf, or there is none, the result is 0; where the least finite float masks all, they count alike.

    Args:
        query: float32 ``[..., L, D]``.
        key: float32 ``[..., S, D]``.
        value: float32 ``[..., S, E]``.
        mask: float32, broadcast to ``[..., L, S]``, or None.
        scale: Of the scores.
        causal: Whether query ``i`` sees the keys up to ``i`` only.
    """
    q, q_scale, q_finite = _rows(query)
    k, k_scale, k_finite = _rows(key)
    v, v_scale, v_finite = _rows(value)
    finite = q_finite[..., :, None] & (k_finite & v_finite).all(-1)[..., None, None]
    sums = _products(q, k.transpose(-2, -1))
    factor = torch.tensor(exponent_factor(scale), dtype=torch.float32)
    scores = (sums * k_scale[..., None, :]) * (q_scale * factor)[..., :, None]
    masked = _added(mask, scores, causal)
    placed = log2_of(v_scale)[..., None, :]
    e = _equal_where_all_are_masked(scores + (masked + placed), scores + masked, placed)
    weights = _weighted(e, v, 1.0 / v_scale)
    return torch.where(finite, weights, torch.nan) if e.shape[-1] > 0 else weights


def exponent_factor(scale: float) -> float:
    """What scores are multiplied by to be exponents of two, a float32."""
    return float(torch.tensor(scale * _LOG2_E, dtype=torch.float32))


def _rows(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of each row its codes, its scale, and whether it is finite (rows that are not count as zeros)."""
    finite = x.isfinite().all(-1)
    x = torch.where(finite[..., None], x, 0.0)
    most = F.pad(x.abs(), (0, 1), value=_LEAST_MAGNITUDE).amax(-1)
    return torch.round(x * torch.div(torch.tensor(127.0), most)[..., None]), most / 127.0, finite


def _products(a: Tensor, b: Tensor) -> Tensor:
    return (a.double() @ b.double()).float()


def _added(mask: Tensor | None, scores: Tensor, causal: bool) -> Tensor:
    """What is added to scores, in the units of the exponent."""
    if mask is None:
        added = torch.zeros(scores.shape[-2:])
    else:
        added = torch.where(mask == -torch.inf, mask, (mask * torch.tensor(_LOG2_E)).clamp(min=_LEAST))
    if not causal:
        return added
    return added.masked_fill(torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1), -torch.inf)


def _equal_where_all_are_masked(e: Tensor, scores: Tensor, placed: Tensor) -> Tensor:
    """Keys of which the least finite float masks all count alike, as torch's softmax makes of them."""
    if e.shape[-1] == 0:
        return e
    most = e.amax(-1, keepdim=True)
    alike = torch.where(scores == scores.amax(-1, keepdim=True), placed, -torch.inf)
    return torch.where((most < _ALL_MASKED) & (most > -torch.inf), alike, e)


def _weighted(e: Tensor, v: Tensor, inverse: Tensor) -> Tensor:
    """``sum(2^e * v) / sum(2^e * inverse)`` over keys, block by block."""
    blocks = -(-e.shape[-1] // BLOCK)
    spare = blocks * BLOCK - e.shape[-1]
    e = F.pad(e, (0, spare), value=-torch.inf).reshape(*e.shape[:-1], blocks, BLOCK)
    v = F.pad(v, (0, 0, 0, spare)).reshape(*v.shape[:-2], blocks, BLOCK, v.shape[-1])
    inverse = F.pad(inverse, (0, spare)).reshape(*inverse.shape[:-1], 1, blocks, BLOCK)
    if blocks == 0:
        return torch.zeros((*e.shape[:-2], 1)) + torch.zeros((*v.shape[:-3], 1, v.shape[-1]))
    most = e.amax(-1)
    hidden = most == -torch.inf
    u = torch.where(hidden[..., None], 0.0, exp2_of((e - most[..., None]) + torch.tensor(math.log2(255.0))))
    u = u.nan_to_num(nan=0.0)
    shares = reduce(torch.add, (u * inverse).unbind(-1))
    sums = _products(torch.round(u).transpose(-3, -2), v).transpose(-3, -2)
    overall = most.amax(-1, keepdim=True)
    gains = torch.where(hidden, 0.0, exp2_of(most - overall).nan_to_num(nan=0.0))
    total = reduce(torch.add, (sums * gains[..., None]).unbind(-2))
    whole = reduce(torch.add, (shares * gains).unbind(-1))[..., None]
    return torch.where(overall == -torch.inf, 0.0, total * (1.0 / whole))


_EXP2 = (0.009582854807376862, 0.05590642988681793, 0.24024099111557007, 0.6931241750717163, 1.0)
_SQRT_HALF_BITS = 0x3F3504F3
_LOG2 = (0.2526611089706421, -0.3945755064487457, 0.4866860508918762, -0.7202417850494385, 1.4425779581069946)
_SHIFT = 12583039.0  # 1.5 * 2^23 + 127: a sum with it has the nearest integer, and an exponent's bias, in its low bits


def exp2_of(t: Tensor) -> Tensor:
    """``2 ** t`` within 3e-6, relative; 0 from -126.5 down."""
    t = t.clamp(min=-127.0)
    r = t + _SHIFT
    f = t - (r - _SHIFT)
    p = reduce(lambda sum_, c: sum_ * f + c, map(torch.tensor, _EXP2))
    return p * (r.view(torch.int32) << 23).view(torch.float32)


def log2_of(x: Tensor) -> Tensor:
    """``log2(x)`` of positive normal numbers, within 2e-5."""
    bits = x.view(torch.int32)
    exponent = (bits - _SQRT_HALF_BITS) >> 23
    f = (bits - (exponent << 23)).view(torch.float32) - 1.0
    p = reduce(lambda sum_, c: sum_ * f + c, map(torch.tensor, _LOG2))
    return exponent.float() + p * f
