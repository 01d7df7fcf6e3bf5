"""Spellings of the ops on integers."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, fx, nn

from qfx.ops.spelling import Alias, aliases, aten, require, require_tensor
from qfx.ops.terms import Attr, Term, term


def embedding(
    input: Any,
    weight: Any,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Term:
    """``F.embedding``."""
    require_tensor(input, weight)
    constant = isinstance(weight, (Attr, Tensor)) or (isinstance(weight, fx.Node) and weight.op == "get_attr")
    require(constant, "its weight is computed by the model, not a parameter")
    require(max_norm is None, "its max_norm changes its weight at every call")
    require(not scale_grad_by_freq and not sparse, "its gradients are scaled by frequency, or sparse")
    return term("embedding", input, weight, padding_idx=padding_idx)


def aten_embedding(
    weight: Any, indices: Any, padding_idx: int = -1, scale_grad_by_freq: bool = False, sparse: bool = False
) -> Term:
    """``aten.embedding``."""
    padding = None if padding_idx == -1 else padding_idx
    return embedding(indices, weight, padding, None, 2.0, scale_grad_by_freq, sparse)


ALIASES: tuple[Alias, ...] = (
    *aliases("embedding", embedding, functions=[F.embedding], modules=[nn.Embedding],
             attributes="weight padding_idx max_norm norm_type scale_grad_by_freq sparse"),
    *aten("embedding", aten_embedding, "embedding"),
)  # fmt: skip
