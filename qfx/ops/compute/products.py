"""Spellings of products of two tensors: matmul, einsum, attention."""

from __future__ import annotations

import math
import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx

from qfx.ops.dtypes import is_boolean, is_floating
from qfx.ops.extents import extent_of, rank_of
from qfx.ops.spelling import Alias, aliases, aten, finite, require, require_tensor
from qfx.ops.terms import Folded, NotNormal, Term, term


def matmul(input: Any, other: Any) -> Term:
    """``input @ other``."""
    require_tensor(input, other)
    return term("matmul", input, other)


def addmm(input: Any, mat1: Any, mat2: Any, *, beta: float = 1, alpha: float = 1) -> Term:
    """``torch.addmm``, ``torch.baddbmm``: a linear layer when the weight and the bias vector are constants."""
    require_tensor(input, mat1, mat2)
    vector = isinstance(input, fx.Node) and rank_of(input) == 1 and input.op == "get_attr"
    if vector and beta == alpha == 1 and isinstance(mat2, fx.Node) and mat2.op == "get_attr":
        return term("linear", mat1, Folded("weight", torch.t, (mat2,)), input)
    product = _times(term("matmul", mat1, mat2), alpha)
    return term("add", product, _times(input, beta)) if beta != 0 else product


def _times(value: Any, factor: float) -> Any:
    return value if factor == 1 else term("mul_scalar", value, value=finite(factor))


def einsum(equation: str, *operands: Any, path: Any = None) -> Term:
    """``torch.einsum`` of two tensors with one index that is summed, one that only each has, and any that both keep."""
    tensors = tuple(operands[0]) if len(operands) == 1 and isinstance(operands[0], (tuple, list)) else operands
    require(isinstance(equation, str) and len(tensors) == 2, "it is not of two operands")
    require_tensor(*tensors)
    given, arrow, result = equation.replace(" ", "").partition("->")
    left, _, right = given.partition(",")
    indices = sorted({*left, *right})
    if not arrow:
        result = "".join(index for index in indices if given.count(index) == 1)
    product = f"a product with {equation!r} has no row"
    require(all(index.isalpha() and max(left.count(index), right.count(index)) == 1 for index in indices), product)
    kept = "".join(i for i in result if i in left and i in right)
    summed = "".join(i for i in left if i in right and i not in result)
    rows, columns = ("".join(i for i in one if i not in other) for one, other in ((left, right), (right, left)))
    require(len(summed) == len(rows) == len(columns) == 1 and {rows, columns} <= {*result}, product)
    first = _permuted(tensors[0], left, kept + rows + summed)
    second = _permuted(tensors[1], right, kept + summed + columns)
    return _permuted(term("matmul", first, second), kept + rows + columns, result)


def _permuted(value: Any, have: str, need: str) -> Any:
    """``value``, whose dims are named ``have``, with its dims in the order ``need``."""
    return value if have == need else term("permute", value, dims=tuple(map(have.index, need)))


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
    """``F.scaled_dot_product_attention``: ``softmax(query * scale @ key.T + mask) @ value``."""
    require_tensor(query, key, value)
    require(dropout_p == 0.0, "it draws a random mask at evaluation too")
    require(not (is_causal and attn_mask is not None), "it has a mask and is causal, which torch refuses too")
    if enable_gqa:
        key, value = _repeated(key, query), _repeated(value, query)
    width = extent_of(query, -1)
    require(scale is not None or width is not None, "the width of its heads is unknown")
    factor = float(scale) if scale is not None else 1.0 / math.sqrt(width or 1)
    scores = term("matmul", term("mul_scalar", query, value=factor), term("transpose", key, dim0=-2, dim1=-1))
    if attn_mask is not None:
        require_tensor(attn_mask)
        scores = term("add", scores, attn_mask if is_floating(attn_mask) else _penalty(attn_mask))
    weights = term("causal_softmax", scores) if is_causal else term("softmax", scores, dim=-1)
    return term("matmul", weights, value)


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


_MASKED = torch.finfo(torch.float32).min
"""What a masked score gets added: softmax makes zero of it. Infinity would make NaN of a row that is masked as a whole,
of which torch makes zeros and this a mean."""


def _penalty(mask: fx.Node) -> Term | Folded:
    """Zero where ``mask`` is true, and so little elsewhere that nothing attends there."""
    require(is_boolean(mask), "its mask is neither of floating point nor of truth values")
    if mask.op == "get_attr":
        return Folded("penalty", lambda constant: torch.where(constant, 0.0, _MASKED), (mask,))
    return Term(torch.where, (mask, 0.0, _MASKED))


ALIASES: tuple[Alias, ...] = (
    *aliases("matmul", matmul, functions=[torch.matmul, torch.bmm, torch.mm, operator.matmul], methods="matmul bmm mm"),
    *aliases("matmul", addmm, functions=[torch.addmm, torch.baddbmm], methods="addmm baddbmm"),
    *aliases("matmul", einsum, functions=[torch.einsum]),
    *aliases("matmul", attention, functions=[F.scaled_dot_product_attention]),
    *aten("linear", addmm, "addmm"),
    *aten("matmul", matmul, "matmul mm bmm"),
    *aten("matmul", addmm, "baddbmm"),
    *aten("matmul", einsum, "einsum"),
    *aten("matmul", attention, "scaled_dot_product_attention"),
)  # fmt: skip
