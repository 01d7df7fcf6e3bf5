"""Spellings of attention in one call. (Products and a softmax that spell it out are found by a rule.)"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx

from qfx.ops.dtypes import is_boolean, is_floating
from qfx.ops.extents import extent_of
from qfx.ops.spelling import Alias, aliases, aten, require, require_tensor
from qfx.ops.terms import Folded, Term, term


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
        _require_shared(key, query)
    width = extent_of(query, -1)
    require(scale is not None or width is not None, "the width of its heads is unknown")
    factor = float(scale) if scale is not None else 1.0 / math.sqrt(width or 1)
    if attn_mask is not None:
        require_tensor(attn_mask)
        attn_mask = attn_mask if is_floating(attn_mask) else _penalty(attn_mask)
    return Term("attention", (query, key, value, attn_mask), {"scale": factor, "causal": is_causal})


def _require_shared(keys: fx.Node, query: fx.Node) -> None:
    have, need = extent_of(keys, -3), extent_of(query, -3)
    if have is not None and need is not None:
        require(have > 0 and need % have == 0, f"{need} heads of queries don't share {have} of keys evenly")


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
