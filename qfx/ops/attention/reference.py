"""Float reference of attention, and the op itself at every level."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from qfx.ops.attention import integer


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

    Args:
        query: float32 ``[..., L, D]``.
        key: ``[..., S, D]``; dims before the last two broadcast.
        value: ``[..., S, E]``.
        mask: float32, broadcast to ``[..., L, S]``; -inf hides a key.
        scale: Of the scores, as ``1 / sqrt(D)``.
        causal: Whether query ``i`` sees the keys up to ``i`` only.
        integers: Whether products are of 8-bit integers, as :func:`qfx.ops.attention.integer.by_rows` says.
    """
    if integers:
        return integer.by_rows(query, key, value, mask, scale=scale, causal=causal)
    return F.scaled_dot_product_attention(query, key, value, mask, 0.0, causal, scale=scale)
