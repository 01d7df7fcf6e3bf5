"""Spellings of products of two tensors: matmul, einsum."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

from qfx.ops.extents import rank_of
from qfx.ops.spelling import Alias, aliases, aten, finite, require, require_tensor
from qfx.ops.terms import Folded, Term, term


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


ALIASES: tuple[Alias, ...] = (
    *aliases("matmul", matmul, functions=[torch.matmul, torch.bmm, torch.mm, operator.matmul], methods="matmul bmm mm"),
    *aliases("matmul", addmm, functions=[torch.addmm, torch.baddbmm], methods="addmm baddbmm"),
    *aliases("matmul", einsum, functions=[torch.einsum]),
    *aten("linear", addmm, "addmm"),
    *aten("matmul", matmul, "matmul mm bmm"),
    *aten("matmul", addmm, "baddbmm"),
    *aten("matmul", einsum, "einsum"),
)  # fmt: skip
