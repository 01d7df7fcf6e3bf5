"""Spellings of the ops on integers and truth values."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from qfx.ops.dtypes import is_boolean, is_integral
from qfx.ops.extents import is_dim, lengths_of, rank_of, value_of
from qfx.ops.spelling import Alias, aliases, aten, dims_of, first, is_number, is_tensor, require, require_tensor
from qfx.ops.table import is_op
from qfx.ops.terms import Attr, Shape, Term, term


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
    _require_table(input, weight, max_norm)
    require(not scale_grad_by_freq and not sparse, "its gradients are scaled by frequency, or sparse")
    return term("embedding", input, weight, padding_idx=padding_idx)


def aten_embedding(
    weight: Any, indices: Any, padding_idx: int = -1, scale_grad_by_freq: bool = False, sparse: bool = False
) -> Term:
    """``aten.embedding``."""
    padding = None if padding_idx == -1 else padding_idx
    return embedding(indices, weight, padding, None, 2.0, scale_grad_by_freq, sparse)


def _require_table(input: Any, weight: Any, max_norm: float | None) -> None:
    require_tensor(input, weight)
    constant = isinstance(weight, (Attr, Tensor)) or (isinstance(weight, fx.Node) and weight.op == "get_attr")
    require(constant, "its weight is computed by the model, not a parameter")
    require(max_norm is None, "its max_norm changes its weight at every call")


def bag(
    input: Any,
    offsets: Any = None,
    per_sample_weights: Any = None,
    *,
    weight: Any,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    mode: str = "mean",
    **gradients_and_bags: Any,
) -> Term:
    """``nn.EmbeddingBag``."""
    _require_table(input, weight, max_norm)
    require_tensor(*(given for given in (offsets, per_sample_weights) if given is not None))
    require(mode in _MODES, f"{mode!r} is no mode")
    require(per_sample_weights is None or mode == "sum", "its per_sample_weights are not for a sum")
    return term("embedding_bag", input, weight, offsets, per_sample_weights, mode=mode, **gradients_and_bags)


_MODES = ("sum", "mean", "max")


def embedding_bag(
    input: Any,
    weight: Any,
    offsets: Any = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Any = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Term:
    """``F.embedding_bag``."""
    return bag(
        input, offsets, per_sample_weights, weight=weight, max_norm=max_norm, mode=mode, sparse=sparse,
        scale_grad_by_freq=scale_grad_by_freq, include_last_offset=include_last_offset, padding_idx=padding_idx,
    )  # fmt: skip


def aten_embedding_bag(
    weight: Any,
    indices: Any,
    offsets: Any,
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    per_sample_weights: Any = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Term:
    """``aten.embedding_bag``."""
    padding = None if padding_idx == -1 else padding_idx
    if not include_last_offset:
        indices, offsets, per_sample_weights = _as_rows(indices, offsets, per_sample_weights)
    return embedding_bag(
        indices, weight, offsets, None, 2.0, scale_grad_by_freq, _MODES[mode], sparse, per_sample_weights,
        include_last_offset, padding,
    )  # fmt: skip


def _as_rows(indices: Any, offsets: Any, factors: Any) -> tuple[Any, Any, Any]:
    """Bags of as many indices each, which torch computes as one row of them with offsets, as what they were."""
    if not (is_op(offsets, "arange") and is_op(indices, "reshape", "flatten")):
        return indices, offsets, factors
    bags, first = indices.args[0], offsets.kwargs["start"]
    lengths = lengths_of(bags)
    if lengths is None or len(lengths) != 2 or rank_of(indices) != 1 or first != 0:
        return indices, offsets, factors
    if lengths_of(offsets) != lengths[:1] or value_of(offsets.kwargs["step"]) != lengths[1]:
        return indices, offsets, factors
    if factors is None or (is_op(factors, "reshape", "flatten") and lengths_of(factors.args[0]) == lengths):
        return bags, None, factors and factors.args[0]
    return indices, offsets, factors


# ---------------------------------------------------------------- element by element


def _comparison(name: str, mirrored: str) -> Callable[..., Term]:
    def rule(input: Any, other: Any) -> Term:
        if is_number(input):
            input, other = other, input
            return _compared(mirrored, input, other)
        return _compared(name, input, other)

    return rule


def _compared(name: str, x: Any, y: Any) -> Term:
    require_tensor(x)
    require(
        is_number(y) or isinstance(y, bool) or is_tensor(y), "it compares with what is neither a tensor nor a number"
    )
    return term(name, x, y)


_COMPARISONS = {"eq": "eq", "ne": "ne", "lt": "gt", "le": "ge", "gt": "lt", "ge": "le"}
"""The comparisons, and what each is with its operands exchanged."""
_LONG_NAMES = {
    "eq": (), "ne": ("not_equal",), "lt": ("less",), "le": ("less_equal",),
    "gt": ("greater",), "ge": ("greater_equal",),
}  # fmt: skip


def _comparisons() -> list[Alias]:
    found: list[Alias] = []
    for name, mirrored in _COMPARISONS.items():
        rule, names = _comparison(name, mirrored), (name, *_LONG_NAMES[name])
        functions = [getattr(torch, each) for each in names]
        found += aliases(
            name, rule, functions=[*functions, getattr(operator, name)], methods=f"{' '.join(names)} __{name}__"
        )
        found += aten(name, rule, f"{name}.Scalar {name}.Tensor")
    return found


def _logical(name: str) -> Callable[..., Term]:
    def rule(input: Any, other: Any) -> Term:
        require_tensor(input, other)
        return term(name, input, other)

    return rule


def _bitwise(name: str) -> Callable[..., Term]:
    """Of truth values; of integers, it is no logical operation."""

    def rule(input: Any, other: Any) -> Term:
        require_tensor(input, other)
        require(is_boolean(input) and is_boolean(other), "its operands are not known to be truth values")
        return term(name, input, other)

    return rule


def logical_not(input: Any) -> Term:
    """``torch.logical_not``."""
    require_tensor(input)
    return term("logical_not", input)


def bitwise_not(input: Any) -> Term:
    """``~x``."""
    require_tensor(input)
    require(is_boolean(input), "its operand is not known to be of truth values")
    return term("logical_not", input)


def _extremum(name: str) -> Callable[..., Term]:
    def rule(input: Any, other: Any) -> Term:
        require_tensor(input, other)
        require(is_integral(input) and is_integral(other), "its operands are not known to be integers")
        return term(name, input, other)

    return rule


def where(condition: Any, input: Any, other: Any) -> Term:
    """``torch.where``."""
    require_tensor(condition)
    for value in (input, other):
        require(is_number(value) or isinstance(value, bool) or is_tensor(value), "it takes what is no value")
    return term("where", condition, input, other)


def method_where(input: Any, condition: Any, other: Any) -> Term:
    """``x.where``."""
    return where(condition, input, other)


def masked_fill(input: Any, mask: Any, value: Any) -> Term:
    """``x.masked_fill``."""
    return where(mask, value, input)


# ---------------------------------------------------------------- made of lengths


def arange(start: Any, end: Any = None, step: Any = 1, *, dtype: Any = None, **options: Any) -> Term:
    """``torch.arange`` of integers."""
    start, end = (0, start) if end is None else (start, end)
    require(dtype in (None, torch.int64), f"its numbers are {dtype}")
    require(all(_is_length(value) for value in (start, end, step)), "its bounds are no integers")
    require(isinstance(start, int), "its first number is computed")
    return term("arange", start=start, end=end, step=step)


def _is_length(value: Any) -> bool:
    return (isinstance(value, int) and not isinstance(value, bool)) or is_dim(value) or isinstance(value, Term)


def full(size: Any, fill_value: Any, *, dtype: Any = None, **options: Any) -> Term:
    """``torch.full``."""
    require(is_number(fill_value) or isinstance(fill_value, bool), "its value is computed")
    kinds = {bool: torch.bool, int: torch.int64, float: torch.float32}
    dtype = kinds[type(fill_value)] if dtype is None else dtype
    require(dtype in _DTYPES, f"its values are {dtype}")
    return term("full", dims_of((size,)), value=fill_value, dtype=dtype)


def _filled(value: float) -> Callable[..., Term]:
    def rule(*size: Any, dtype: Any = None, **options: Any) -> Term:
        return full(dims_of(size), value, dtype=torch.float32 if dtype is None else dtype)

    return rule


def full_like(input: Any, fill_value: Any, *, dtype: Any = None, **options: Any) -> Term:
    """``torch.full_like``."""
    return new_full(input, Shape(input).entries(), fill_value, dtype=dtype)


def new_full(input: Any, size: Any, fill_value: Any, *, dtype: Any = None, **options: Any) -> Term:
    """``x.new_full``."""
    require_tensor(input)
    dtype = input.meta.get("dtype") if dtype is None and isinstance(input, fx.Node) else dtype
    require(dtype is not None, "the dtype of its operand is unknown")
    return full(size, fill_value, dtype=dtype)


def _filled_like(value: float) -> Callable[..., Term]:
    def rule(input: Any, *, dtype: Any = None, **options: Any) -> Term:
        return full_like(input, value, dtype=dtype)

    return rule


def _new_filled(value: float) -> Callable[..., Term]:
    def rule(input: Any, *size: Any, dtype: Any = None, **options: Any) -> Term:
        return new_full(input, dims_of(size), value, dtype=dtype)

    return rule


_DTYPES = (torch.float32, torch.int64, torch.int32, torch.bool)
"""What programs hold beside codes."""


# ---------------------------------------------------------------- along dims


def cumsum(input: Any, dim: int, *, dtype: Any = None) -> Term:
    """``torch.cumsum`` of integers or truth values."""
    require_tensor(input)
    require(is_integral(input) or is_boolean(input), "its operand is not known to be of integers")
    require(dtype in (None, torch.int64), f"its sums are {dtype}")
    return term("cumsum", input, dim=dim)


def argmax(input: Any, dim: int | None = None, keepdim: bool = False) -> Term:
    """``torch.argmax`` along a dim."""
    require_tensor(input)
    require(isinstance(dim, int), "it looks through all dims")
    return term("argmax", input, dim=dim, keepdim=keepdim)


def gather(input: Any, dim: int, index: Any, *, sparse_grad: bool = False) -> Term:
    """``torch.gather``."""
    require_tensor(input, index)
    return term("gather", input, index, dim=dim)


def take(input: Any, indices: Sequence[Any]) -> Term:
    """``x[i, j]`` with tensors of integers, or ``x[:, i, j]``."""
    require_tensor(input, *(index for index in indices if index is not None))
    before = next((at for at, index in enumerate(indices) if index is not None), len(indices))
    given = [index for index in indices[before:] if index is not None]
    require(list(indices[before : before + len(given)]) == given, "it is indexed by tensors with whole dims among them")
    require(0 < len(given) <= _MOST_INDICES, f"it is indexed by none or more than {_MOST_INDICES} tensors")
    require(all(is_integral(index) for index in given), "it is indexed by what is not known to be integers")
    return _taken_behind(input, given, before) if before else term("take", input, given)


_MOST_INDICES = 3


def _taken_behind(x: Any, indices: list[Any], before: int) -> Term:
    """The dims that are indexed are moved to the front, and what they become back."""
    ranks = [rank for rank in map(rank_of, (x, *indices)) if rank is not None]
    require(len(ranks) == 1 + len(indices), "the rank of a value that is indexed, or indexes, is unknown")
    rank, became, behind = ranks[0], max(ranks[1:]), before + len(indices)
    front = term("permute", x, dims=(*range(before, behind), *range(before), *range(behind, rank)))
    whole = rank - len(indices) + became
    back = (*range(became, became + before), *range(became), *range(became + before, whole))
    return term("permute", term("take", front, indices), dims=back)


_NOT = {"logical_not": [torch.logical_not], "bitwise_not": [torch.bitwise_not, operator.invert]}

ALIASES: tuple[Alias, ...] = (
    *aliases("embedding", embedding, functions=[F.embedding], modules=[nn.Embedding],
             attributes="weight padding_idx max_norm norm_type scale_grad_by_freq sparse"),
    *aten("embedding", aten_embedding, "embedding"),
    *aliases("embedding_bag", bag, modules=[nn.EmbeddingBag],
             attributes="weight max_norm norm_type mode sparse scale_grad_by_freq include_last_offset padding_idx"),
    *aliases("embedding_bag", embedding_bag, functions=[F.embedding_bag]),
    *aten("embedding_bag", first(aten_embedding_bag, 4),
          "embedding_bag embedding_bag.padding_idx _embedding_bag _embedding_bag_forward_only"),
    *_comparisons(),
    *(alias for name in ("logical_and", "logical_or", "logical_xor")
      for alias in (*aliases(name, _logical(name), functions=[getattr(torch, name)], methods=name),
                    *aten(name, _logical(name), name))),
    *(alias for name, bits in (("logical_and", "and"), ("logical_or", "or"), ("logical_xor", "xor"))
      for alias in (*aliases(name, _bitwise(name),
                             functions=[getattr(torch, f"bitwise_{bits}"), getattr(operator, f"__{bits}__")],
                             methods=f"bitwise_{bits} __{bits}__"),
                    *aten(name, _bitwise(name), f"bitwise_{bits}.Tensor __{bits}__.Tensor"))),
    *aliases("logical_not", logical_not, functions=[torch.logical_not], methods="logical_not"),
    *aliases("logical_not", bitwise_not, functions=[torch.bitwise_not, operator.invert],
             methods="bitwise_not __invert__"),
    *aten("logical_not", logical_not, "logical_not"),
    *aten("logical_not", bitwise_not, "bitwise_not"),
    *aliases("minimum", _extremum("minimum"), functions=[torch.minimum], methods="minimum"),
    *aliases("maximum", _extremum("maximum"), functions=[torch.maximum], methods="maximum"),
    *aten("minimum", _extremum("minimum"), "minimum min.other"),
    *aten("maximum", _extremum("maximum"), "maximum max.other"),
    *aliases("where", where, functions=[torch.where]),
    *aliases("where", method_where, methods="where"),
    *aliases("where", masked_fill, functions=[torch.masked_fill], methods="masked_fill masked_fill_"),
    *aten("where", where, "where.self where.Scalar where.ScalarSelf where.ScalarOther"),
    *aten("where", masked_fill,
          "masked_fill.Scalar masked_fill.Tensor masked_fill_.Scalar masked_fill_.Tensor"),
    *aliases("arange", arange, functions=[torch.arange]),
    *aten("arange", arange, "arange arange.start arange.start_step"),
    *aliases("full", full, functions=[torch.full]),
    *aliases("full", _filled(0), functions=[torch.zeros]),
    *aliases("full", _filled(1), functions=[torch.ones]),
    *aliases("full", full_like, functions=[torch.full_like]),
    *aliases("full", _filled_like(0), functions=[torch.zeros_like]),
    *aliases("full", _filled_like(1), functions=[torch.ones_like]),
    *aliases("full", new_full, methods="new_full"),
    *aliases("full", _new_filled(0), methods="new_zeros"),
    *aliases("full", _new_filled(1), methods="new_ones"),
    *aten("full", full, "full"),
    *aten("full", _filled(0), "zeros"),
    *aten("full", _filled(1), "ones"),
    *aten("full", full_like, "full_like"),
    *aten("full", _filled_like(0), "zeros_like"),
    *aten("full", _filled_like(1), "ones_like"),
    *aten("full", new_full, "new_full"),
    *aten("full", _new_filled(0), "new_zeros"),
    *aten("full", _new_filled(1), "new_ones"),
    *aliases("cumsum", cumsum, functions=[torch.cumsum], methods="cumsum"),
    *aten("cumsum", cumsum, "cumsum"),
    *aliases("argmax", argmax, functions=[torch.argmax], methods="argmax"),
    *aten("argmax", argmax, "argmax"),
    *aliases("gather", gather, functions=[torch.gather], methods="gather"),
    *aten("gather", gather, "gather"),
    *aten("take", take, "index.Tensor"),
)  # fmt: skip
