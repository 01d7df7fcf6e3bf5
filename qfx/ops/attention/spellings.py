"""Spellings of attention in one call. (Products and a softmax that spell it out are found by a rule.)"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx

from qfx.ops.dtypes import is_boolean, is_floating
from qfx.ops.extents import extent_of, rank_of
from qfx.ops.spelling import Alias, aliases, aten, require, require_tensor
from qfx.ops.terms import Folded, NotNormal, Term, term


def attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Term:
    """``F.scaled_dot_product_attention``."""
    require_tensor(query, key, value)
    require(dropout_p == 0.0, "it draws a random mask at evaluation too")
    require(not (is_causal and attn_mask is not None), "it has a mask and is causal, which torch refuses too")
    if enable_gqa:
        key, value = _repeated(key, query), _repeated(value, query)
    width = extent_of(query, -1)
    require(scale is not None or width is not None, "the width of its heads is unknown")
    factor = float(scale) if scale is not None else 1.0 / math.sqrt(width or 1)
    if attn_mask is not None:
        require_tensor(attn_mask)
        attn_mask = attn_mask if is_floating(attn_mask) else _penalty(attn_mask)
    return Term("attention", (query, key, value, attn_mask), {"scale": factor, "causal": is_causal})


def _repeated(heads: fx.Node, query: fx.Node) -> Any:
    """Keys or values ``[..., H, S, D]``, each head as often as it takes to have one for each of ``query``'s."""
    rank, have, need = rank_of(heads), extent_of(heads, -3), extent_of(query, -3)
    if rank is None or have is None or need is None:
        raise NotNormal("the number of its heads is unknown")
    require(need % have == 0, f"{need} heads of queries don't share {have} of keys evenly")
    if need == have:
        return heads
    shape = (*[-1] * (rank - 2), need // have, -1, -1)
    repeated = term("expand", term("unsqueeze", heads, dim=rank - 2), shape=shape)
    return term("flatten", repeated, start_dim=-4, end_dim=-3)


def _penalty(mask: fx.Node) -> Term | Folded:
    """Zero where ``mask`` is true, -inf elsewhere."""
    require(is_boolean(mask), "its mask is neither of floating point nor of truth values")
    if mask.op == "get_attr":
        return Folded("penalty", lambda constant: torch.where(constant, 0.0, -torch.inf), (mask,))
    return term("where", mask, 0.0, -math.inf)


ALIASES: tuple[Alias, ...] = (
    *aliases("attention", attention, functions=[F.scaled_dot_product_attention]),
    *aten("attention", attention, "scaled_dot_product_attention"),
)
