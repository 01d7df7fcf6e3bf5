"""Float reference of attention, and the op itself at every level."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from qfx.ops.attention import integer

_RANK_WITH_HEADS = 3


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    *,
    scale: float,
    causal: bool = False,
    integers: bool = False,
) -> Tensor:
    """``softmax(query @ key.T * scale + mask) @ value``, zeros where every key is masked.

    Keys and values may have fewer heads than queries: with ``H`` and ``G`` of them, head ``h`` of the queries reads
    head ``h // (H / G)``.

    Args:
        query: float32 ``[..., H, L, D]``.
        key: ``[..., G, S, D]``; dims before the heads broadcast, and so does a head alone.
        value: ``[..., G, S, E]``.
        mask: float32, broadcast to ``[..., L, S]``; -inf hides a key.
        scale: Of the scores, as ``1 / sqrt(D)``.
        causal: Whether query ``i`` sees the keys up to ``i`` only.
        integers: Whether products are of 8-bit integers, as :func:`qfx.ops.attention.integer.by_rows` says.
    """
    key, value = repeated(key, query), repeated(value, query)
    if integers:
        return integer.by_rows(query, key, value, mask, scale=scale, causal=causal)
    return F.scaled_dot_product_attention(query, key, value, mask, 0.0, causal, scale=scale)


def repeated(heads: Tensor, query: Tensor) -> Tensor:
    """Keys or values, each head as often as heads of ``query`` share it."""
    if min(heads.dim(), query.dim()) < _RANK_WITH_HEADS:
        return heads
    have, need = heads.shape[-3], query.shape[-3]
    shared = have > 1 and need != have and need % have == 0
    return heads.repeat_interleave(need // have, -3) if shared else heads
