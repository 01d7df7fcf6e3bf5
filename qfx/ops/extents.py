"""What a Normal graph says about its shapes without inputs: ranks, constant lengths, dim values.

All of it follows from the shape functions of the op table: a call's operands have unknown lengths, and what its result
has of them, or of constants, is what is known.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import torch
from torch import fx

from qfx.ops.dims import ANY, Dim, Length, Lengths, key_of, substituted, unknown
from qfx.ops.table import TABLE, Op, op_of, same_shape
from qfx.runtime.limits import MOST_DIMS

DIM_FUNCTIONS = (operator.add, operator.sub, operator.mul, operator.floordiv, operator.neg)
"""The arithmetic of dim values."""

_Memo: TypeAlias = dict[Any, Any]
"""What is known in one query: ranks by node, lengths by node and dim. Without it, diamonds cost exponential time."""

_Partial: TypeAlias = "tuple[Length | None, ...]"
_RANKS = range(MOST_DIMS + 1)


def is_dim(value: object) -> bool:
    """Whether ``value`` is a node that computes a dim value (a Python int when the graph runs)."""
    if not isinstance(value, fx.Node) or value.op != "call_function" or "opaque_reason" in value.meta:
        return False
    return value.target is TABLE["size"].fn or value.target in DIM_FUNCTIONS


# ---------------------------------------------------------------- one call


def result_lengths(op: Op, node: fx.Node, of: Callable[[fx.Node], Lengths | None]) -> _Partial | None:
    """The lengths of a call's result, given those of the tensors that it takes; None where they are not known.

    Args:
        op: The row that ``node`` calls.
        node: The call.
        of: The lengths of a tensor node; None where its rank is not known.
    """

    def given(value: Any) -> Any:
        if isinstance(value, fx.Node):
            return _dim_value(value, of) if is_dim(value) else of(value)
        return type(value)(map(given, value)) if isinstance(value, (list, tuple)) else value

    if op.shape is None or op.shape is same_shape:
        return None if op.shape is None else of(node.args[0])  # type: ignore[arg-type]
    nested = len(node.all_input_nodes) != sum(isinstance(arg, fx.Node) for arg in node.args)
    try:
        kwargs = {name: given(value) for name, value in node.kwargs.items()} if nested else node.kwargs
        found = op.shape(*map(given, node.args), **kwargs)
    except (ArithmeticError, LookupError, TypeError, ValueError):  # of operands that do not fit, or are not known
        return None
    return None if found is None else tuple(found)


def _dim_value(value: Any, of: Callable[[fx.Node], Lengths | None]) -> Any:
    if not isinstance(value, fx.Node):
        return value
    if not is_dim(value):
        return unknown((value, None))
    if value.target is TABLE["size"].fn:
        lengths, dim = of(value.args[0]), value.kwargs["dim"]  # type: ignore[arg-type]
        return unknown((value.args[0], dim)) if lengths is None else lengths[dim]  # type: ignore[index]
    return value.target(*(_dim_value(operand, of) for operand in value.args))  # type: ignore[operator]


def _unknown(node: Any, rank: int, from_end: bool = False) -> Lengths:
    return tuple(unknown((node, dim - rank if from_end else dim)) for dim in range(rank))


def _any(node: Any, rank: int, from_end: bool = False) -> Lengths:
    """Lengths of which only the number matters."""
    return (ANY,) * rank


def _lengths_by_rank(
    op: Op, value: fx.Node, memo: _Memo, lengths: Callable[..., Lengths] = _unknown, from_end: bool = False
) -> Iterator[tuple[int | None, _Partial]]:
    """The lengths of a call's result in terms of its operands', by the rank of its first operand.

    There is one where that rank is known, or does not matter; else one for each rank that fits the call.
    """

    def of(node: fx.Node) -> Lengths | None:
        if node.op == "get_attr" and "shape" in node.meta:
            return tuple(node.meta["shape"])
        rank = _rank(node, memo)
        return None if rank is None else lengths(node, rank)

    x = value.args[0] if value.args else None
    found = result_lengths(op, value, of)
    if found is not None:
        yield _rank(x, memo), found
    elif isinstance(x, fx.Node) and _rank(x, memo) is None:
        for rank in _RANKS:
            first = lengths(x, rank, from_end)
            found = result_lengths(op, value, lambda n, first=first: first if n is x else of(n))  # type: ignore[misc]
            if found is not None:
                yield rank, found


# ---------------------------------------------------------------- ranks


def rank_of(value: Any, memo: _Memo | None = None) -> int | None:
    """The rank of a tensor node, or None when the graph alone does not determine it.

    Args:
        value: The node.
        memo: What earlier calls found, and this one adds to, as long as nothing changes in the graph: what is not known
            is otherwise looked for each time, through all that the node is computed from.
    """
    return _rank(value, {} if memo is None else memo)


def _rank(value: Any, memo: _Memo) -> int | None:
    if not isinstance(value, fx.Node):
        return None
    if "shape" in value.meta:
        return len(value.meta["shape"])
    if "rank" in value.meta:
        return int(value.meta["rank"])
    known = _KNOWN.get(value)
    if known is not None:
        return known
    if value not in memo:
        for node in reversed(_unknown_chain(value, memo)):  # operands first: a graph may be deeper than Python's stack
            memo[node] = _find_rank(node, memo)
    rank: int | None = memo[value]
    if rank is not None:
        _KNOWN[value] = rank
    return rank


def _unknown_chain(value: fx.Node, memo: _Memo) -> list[fx.Node]:
    """``value``, its first operand, that one's, and so on, as long as nothing is known of their ranks."""
    chain: list[fx.Node] = []
    node: Any = value
    while isinstance(node, fx.Node) and not (node in memo or node in _KNOWN or {"shape", "rank"} & node.meta.keys()):
        chain.append(node)
        node = node.args[0] if node.args else None
    return chain


_KNOWN: WeakKeyDictionary[fx.Node, int] = WeakKeyDictionary()
"""Ranks that have been found. A node may get other operands, but not another value."""


def forget_ranks() -> None:
    """Finds ranks anew, once more is known of those that they follow from."""
    _KNOWN.clear()


def _find_rank(value: fx.Node, memo: _Memo) -> int | None:
    op = op_of(value)
    if op is None:
        return None
    if op.shape is same_shape:
        return _rank(value.args[0], memo)
    fitting = _fitting_ranks(op, value, memo)
    ranks = set(fitting)
    if len(ranks) == 1:
        return ranks.pop()
    return max(ranks) if _with_or_without_batch(fitting) else None


def _fitting_ranks(op: Op, value: fx.Node, memo: _Memo) -> list[int]:
    """Ranks of a call's result, one for each that fits its first operand."""
    args, kwargs, found = _FITTING.get(value, (None, None, []))
    x = value.args[0] if value.args else None
    is_open = isinstance(x, fx.Node) and _rank(x, memo) is None
    if is_open and args is value.args and kwargs is value.kwargs:
        return found
    found = [len(lengths) for _, lengths in _lengths_by_rank(op, value, memo, _any)]
    if is_open and all(_rank(other, memo) is not None for other in value.all_input_nodes if other is not x):
        _FITTING[value] = value.args, value.kwargs, found
    return found


_FITTING: WeakKeyDictionary[fx.Node, tuple[Any, Any, list[int]]] = WeakKeyDictionary()
"""What fits calls of which all but the first operand's rank is known, with the arguments that they had."""


def _with_or_without_batch(fitting: list[int]) -> bool:
    """Whether a call takes one value or a batch of them, and nothing else; it is taken to get a batch."""
    return len(fitting) == 2


def assumed_rank(value: fx.Node, memo: _Memo | None = None) -> int | None:
    """The rank of the operand of a convolution or a pool where nothing but the op itself says it: a batch.

    ``memo`` is as in :func:`rank_of`.
    """
    op = op_of(value)
    ranks = [] if op is None else _operand_ranks(op, value, {} if memo is None else memo)
    return max(ranks) if len(ranks) == 2 else None


def operand_rank(value: fx.Node, rank: int, memo: _Memo | None = None) -> int | None:
    """The rank of a call's first operand where that of its result is ``rank``; None where several fit.

    ``memo`` is as in :func:`rank_of`.
    """
    op, memo = op_of(value), {} if memo is None else memo
    ranks = [] if op is None else [r for r in _RANKS if _result_rank(op, value, r, memo) == rank]
    return ranks[0] if len(ranks) == 1 else None


def _operand_ranks(op: Op, value: fx.Node, memo: _Memo) -> list[int]:
    return [rank for rank in _RANKS if _result_rank(op, value, rank, memo) is not None]


def _result_rank(op: Op, value: fx.Node, rank: int, memo: _Memo) -> int | None:
    def of(node: fx.Node) -> Lengths | None:
        known = rank if node is value.args[0] else _rank(node, memo)
        return None if known is None else (ANY,) * known

    found = result_lengths(op, value, of)
    return None if found is None else len(found)


def record_rank(value: Any, rank: int | None) -> None:
    """Keeps what is known of the rank of ``value``, and so of what it has its rank from."""
    while isinstance(value, fx.Node) and rank is not None and rank_of(value) is None:
        value.meta["rank"] = rank
        forget_ranks()
        rank = operand_rank(value, rank)
        value = value.args[0] if value.args else None


# ---------------------------------------------------------------- lengths


def extent_of(value: Any, dim: int) -> int | None:
    """The length of ``dim`` of a tensor node when constants alone determine it, or None."""
    length = _length(value, dim, {})
    return length if isinstance(length, int) else None


def origin_of(value: Any, dim: int) -> tuple[Any, int]:
    """The earliest value, with its dim, whose length is that of ``dim`` of ``value`` because ops in between keep it."""
    memo: _Memo = {}
    while (rank := _rank(value, memo)) is not None:
        dim = dim % rank if rank else dim
        key = key_of(_own_length(value, dim, rank, memo))
        if key is None or key[1] is None:
            break
        value, dim = key
    return value, dim


def _length(value: Any, dim: int, memo: _Memo) -> Length:
    """The length of ``dim`` in terms of the earliest values that determine it."""
    if not isinstance(value, fx.Node):
        return unknown((value, dim))
    if (value, dim) not in memo:
        memo[value, dim] = _find_length(value, dim, memo)
    length: Length = memo[value, dim]
    return length


def _find_length(value: fx.Node, dim: int, memo: _Memo) -> Length:
    if value.op == "get_attr" and "shape" in value.meta:
        return int(value.meta["shape"][dim])
    rank = _rank(value, memo)
    dim = dim % rank if rank else dim
    own = _own_length(value, dim, rank, memo)
    found = unknown((value, dim)) if own is None else _resolved(own, memo)
    if isinstance(found, Dim) and dim == (-1 if rank is None else rank - 1):
        read = _length_for_readers(value, memo)
        return found if read is None else read
    return found


def _resolved(length: Length, memo: _Memo) -> Length:
    def value(key: tuple[Any, Any]) -> Length:
        node, dim = key
        return unknown(key) if dim is None else _length(node, dim, memo)

    try:
        found: Length = substituted(length, value)
    except ArithmeticError:  # a division by a length of 0
        return length
    return found


def _own_length(value: fx.Node, dim: int, rank: int | None, memo: _Memo) -> Length | None:
    """The length of ``dim`` in terms of the call's operands; None where no shape function says so."""
    op = op_of(value)
    if op is None:
        return None
    found = set()
    for _, lengths in _lengths_by_rank(op, value, memo, _unknown, dim < 0):
        if (rank is None or len(lengths) == rank) and -len(lengths) <= dim < len(lengths):
            found.add(lengths[dim])
    return found.pop() if len(found) == 1 else None


def _length_for_readers(value: fx.Node, memo: _Memo) -> int | None:
    """The length of the last dim that the linear layers and layer norms that read ``value`` take: no other works."""
    for reader in value.users:
        op = op_of(reader)
        if op is TABLE["linear"] and reader.args[0] is value:
            weight = _length(reader.args[1], 1, memo)
            return weight if isinstance(weight, int) else None
        if op is TABLE["layer_norm"]:
            return int(reader.kwargs["normalized_shape"][-1])  # type: ignore[index,arg-type]
    return None


def channel_dim(conv: fx.Node) -> int:
    """The dim of a convolution's result that its weight's first dim is: 1, or 0 where there is no batch."""
    rank, of_weight = rank_of(conv), rank_of(conv.args[1])
    return 1 if rank is None or of_weight is None else rank - of_weight + 1


# ---------------------------------------------------------------- dtypes


def is_floating(value: Any) -> bool:
    """Whether a tensor is certainly of a floating dtype."""
    return _is_floating(value, set())


def _is_floating(value: Any, seen: set[fx.Node]) -> bool:
    if not isinstance(value, fx.Node) or value in seen:
        return False
    seen.add(value)
    if "dtype" in value.meta:
        return bool(value.meta["dtype"].is_floating_point)
    op = op_of(value)
    if op is None:
        return False
    if op.keeps_dtype or op.qparams == "share":
        operands = value.args[0] if isinstance(value.args[0], (tuple, list)) else value.args[: len(op.tensors)]
        return any(_is_floating(operand, seen) for operand in operands)
    return op.gives_tensor


def is_boolean(value: Any) -> bool:
    """Whether a tensor certainly holds truth values."""
    if not isinstance(value, fx.Node):
        return False
    if "dtype" in value.meta:
        return bool(value.meta["dtype"] is torch.bool)
    op = op_of(value)
    return op is not None and op.qparams == "share" and is_boolean(value.args[0])
