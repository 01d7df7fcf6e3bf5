"""What a Normal graph says about its shapes without inputs: ranks, constant lengths, dim values.

All of it follows from the shape functions of the op table: a call's operands have unknown lengths, and what its result
has of them, or of constants, is what is known. Each is found once while :func:`facts_kept` is open: graphs are walked
operands first, without recursion, so a graph may be deeper than Python's stack.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

from torch import fx

from qfx.ops.dims import ANY, Dim, Length, Lengths, is_long, key_of, keys_of, substituted, unknown
from qfx.ops.table import TABLE, Op, op_of, same_shape
from qfx.runtime.limits import MOST_DIMS

DIM_FUNCTIONS = (operator.add, operator.sub, operator.mul, operator.floordiv, operator.neg)
"""The arithmetic of dim values."""

_Partial: TypeAlias = "tuple[Length | None, ...]"
_RANKS = range(MOST_DIMS + 1)


def is_dim(value: object) -> bool:
    """Whether ``value`` is a node that computes a dim value (a Python int when the graph runs)."""
    if not isinstance(value, fx.Node) or value.op != "call_function" or "opaque_reason" in value.meta:
        return False
    return value.target is TABLE["size"].fn or value.target in DIM_FUNCTIONS


# ---------------------------------------------------------------- what has been found


@dataclass
class _Facts:
    """What queries found. All of it follows from what a value is computed from, and lengths also from who reads them.

    Attributes:
        ranks: By node; None: the graph does not tell.
        lengths: By node and dim, in terms of the earliest values that determine them.
        own: The same in terms of the call's operands.
        origins: By node and dim, as :func:`origin_of` says.
    """

    ranks: dict[fx.Node, int | None] = field(default_factory=dict)
    lengths: dict[fx.Node, dict[int, Length]] = field(default_factory=dict)
    own: dict[fx.Node, dict[int, Length | None]] = field(default_factory=dict)
    origins: dict[fx.Node, dict[int, tuple[Any, int]]] = field(default_factory=dict)

    def forget(self, node: fx.Node) -> None:
        for found in (self.ranks, self.lengths, self.own, self.origins):
            found.pop(node, None)


_KEPT: ContextVar[_Facts | None] = ContextVar("facts of the graph that is being looked at", default=None)

_KNOWN: WeakKeyDictionary[fx.Node, int] = WeakKeyDictionary()
"""Ranks that have been found. A node may get other operands, but not another value."""


@contextmanager
def facts_kept() -> Iterator[None]:
    """Keeps what is found until the end: meanwhile, graphs get new nodes at most, whose makers say :func:`made`."""
    token = _KEPT.set(_KEPT.get() or _Facts())
    try:
        yield
    finally:
        _KEPT.reset(token)


def made(node: fx.Node) -> None:
    """Takes in what a new node says of its operands."""
    facts, x = _facts(), node.args[0] if node.args else None
    known = facts.lengths.get(x, {}).values() if isinstance(x, fx.Node) else ()
    if isinstance(x, fx.Node) and _length_taken(node) is not None and any(isinstance(one, Dim) for one in known):
        _forget_from(x, facts)


def _facts() -> _Facts:
    return _KEPT.get() or _Facts()


def _forget_from(node: fx.Node, facts: _Facts) -> None:
    """Finds anew what follows from ``node``, of which more is known now."""
    front, seen = [node], {node}
    while front:
        node = front.pop()
        facts.forget(node)
        _KNOWN.pop(node, None)
        front += [user for user in node.users if user not in seen]
        seen.update(node.users)


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
    op: Op, value: fx.Node, facts: _Facts, lengths: Callable[..., Lengths] = _unknown, from_end: bool = False
) -> Iterator[tuple[int | None, _Partial]]:
    """The lengths of a call's result in terms of its operands', by the rank of its first operand.

    There is one where that rank is known, or does not matter; else one for each rank that fits the call.
    """

    def of(node: fx.Node) -> Lengths | None:
        if node.op == "get_attr" and "shape" in node.meta:
            return tuple(node.meta["shape"])
        rank = _rank(node, facts)
        return None if rank is None else lengths(node, rank)

    x = value.args[0] if value.args else None
    found = result_lengths(op, value, of)
    if found is not None:
        yield _rank(x, facts), found
    elif isinstance(x, fx.Node) and _rank(x, facts) is None:
        for rank in _RANKS:
            first = lengths(x, rank, from_end)
            found = result_lengths(op, value, lambda n, first=first: first if n is x else of(n))  # type: ignore[misc]
            if found is not None:
                yield rank, found


# ---------------------------------------------------------------- ranks


def rank_of(value: Any) -> int | None:
    """The rank of a tensor node, or None when the graph alone does not determine it."""
    return _rank(value, _facts())


def _rank(value: Any, facts: _Facts) -> int | None:
    if not isinstance(value, fx.Node):
        return None
    known = _told_rank(value, facts)
    if known is not None or value in facts.ranks:
        return known
    walk = [value]
    while walk:
        node = walk[-1]
        open_operands = [x for x in node.all_input_nodes if x not in facts.ranks and _told_rank(x, facts) is None]
        walk += open_operands
        if not open_operands:
            walk.pop()
            if node not in facts.ranks:
                rank = facts.ranks[node] = _find_rank(node, facts)
                if rank is not None:
                    _KNOWN[node] = rank
    return facts.ranks[value]


def _told_rank(node: fx.Node, facts: _Facts) -> int | None:
    """The rank of a value where it need not be looked for."""
    if "shape" in node.meta:
        return len(node.meta["shape"])
    if "rank" in node.meta:
        return int(node.meta["rank"])
    return _KNOWN.get(node)


def _find_rank(value: fx.Node, facts: _Facts) -> int | None:
    """The rank of a value, once those of its operands are known or known not to be."""
    op = op_of(value)
    if op is None or not op.gives_tensor:
        return None
    if op.shape is same_shape:
        return _rank(value.args[0], facts)
    fitting = [len(lengths) for _, lengths in _lengths_by_rank(op, value, facts, _any)]
    ranks = set(fitting)
    if len(ranks) == 1:
        return ranks.pop()
    return max(ranks) if _with_or_without_batch(fitting) else None


def _with_or_without_batch(fitting: list[int]) -> bool:
    """Whether a call takes one value or a batch of them, and nothing else; it is taken to get a batch."""
    return len(fitting) == 2


def assumed_rank(value: fx.Node) -> int | None:
    """The rank of the operand of a convolution or a pool where nothing but the op itself says it: a batch."""
    op, facts = op_of(value), _facts()
    if op is None or op.shape is same_shape:
        return None
    ranks = [rank for rank in _RANKS if _result_rank(op, value, rank, facts) is not None]
    return max(ranks) if len(ranks) == 2 else None


def operand_rank(value: fx.Node, rank: int) -> int | None:
    """The rank of a call's first operand where that of its result is ``rank``; None where several fit."""
    op, facts = op_of(value), _facts()
    if op is None or op.shape is same_shape:
        return None if op is None else rank
    ranks = [r for r in _RANKS if _result_rank(op, value, r, facts) == rank]
    return ranks[0] if len(ranks) == 1 else None


def _result_rank(op: Op, value: fx.Node, rank: int, facts: _Facts) -> int | None:
    def of(node: fx.Node) -> Lengths | None:
        known = rank if node is value.args[0] else _rank(node, facts)
        return None if known is None else (ANY,) * known

    found = result_lengths(op, value, of)
    return None if found is None else len(found)


def record_rank(value: Any, rank: int | None) -> None:
    """Keeps what is known of the rank of ``value``, and so of what it has its rank from."""
    first = None
    while isinstance(value, fx.Node) and rank is not None and rank_of(value) is None:
        value.meta["rank"] = rank
        first = value
        rank = operand_rank(value, rank)
        value = value.args[0] if value.args else None
    if first is not None:
        _forget_from(first, _facts())


# ---------------------------------------------------------------- lengths


def extent_of(value: Any, dim: int) -> int | None:
    """The length of ``dim`` of a tensor node when constants alone determine it, or None."""
    length = _length(value, dim, _facts())
    return length if isinstance(length, int) else None


def lengths_of(value: Any) -> Lengths | None:
    """The lengths of a tensor node in terms of the earliest values that determine them; None: of unknown rank."""
    rank, facts = rank_of(value), _facts()
    return None if rank is None else tuple(_length(value, dim, facts) for dim in range(rank))


def value_of(dim: Any) -> Length:
    """A number, or what a node of a dim value computes, in the same terms."""
    found: Length = _dim_value(dim, lengths_of)
    return found


def origin_of(value: Any, dim: int) -> tuple[Any, int]:
    """The earliest value, with its dim, whose length is that of ``dim`` of ``value`` because ops in between keep it."""
    facts, passed = _facts(), []
    while isinstance(value, fx.Node) and (rank := _rank(value, facts)) is not None:
        dim = dim % rank if rank else dim
        known = facts.origins.get(value, {}).get(dim)
        key = key_of(_own_length(value, dim, facts)) if known is None else known
        if key is None or key[1] is None:
            break
        passed.append((value, dim))
        value, dim = key
        if known is not None:
            break
    for node, of in passed:
        facts.origins.setdefault(node, {})[of] = value, dim
    return value, dim


def _length(value: Any, dim: int, facts: _Facts) -> Length:
    """The length of ``dim`` in terms of the earliest values that determine it."""
    if not isinstance(value, fx.Node):
        return unknown((value, dim))
    walk = [(value, dim)]
    while walk:
        node, of = walk[-1]
        open_lengths = [key for key in _determining(node, of, facts) if key[1] not in facts.lengths.get(key[0], {})]
        walk += open_lengths
        if not open_lengths:
            walk.pop()
            if of not in facts.lengths.setdefault(node, {}):
                facts.lengths[node][of] = _find_length(node, of, facts)
    return facts.lengths[value][dim]


def _determining(value: fx.Node, dim: int, facts: _Facts) -> list[tuple[fx.Node, int]]:
    """The lengths, by node and dim, that the one of ``dim`` is computed from."""
    own = _own_length(value, dim, facts)
    return [(node, of) for node, of in keys_of(own) if isinstance(node, fx.Node) and of is not None]


def _find_length(value: fx.Node, dim: int, facts: _Facts) -> Length:
    """The length of ``dim``, once those are known that it is computed from."""
    if value.op == "get_attr" and "shape" in value.meta:
        return int(value.meta["shape"][dim])
    own, rank = _own_length(value, dim, facts), _rank(value, facts)
    dim = dim % rank if rank else dim
    found = unknown((value, dim)) if own is None else _resolved(own, facts)
    if isinstance(found, Dim) and dim == (-1 if rank is None else rank - 1):
        read = _length_for_readers(value)
        found = found if read is None else read
    return unknown((value, dim)) if is_long(found) else found


def _resolved(length: Length, facts: _Facts) -> Length:
    def value(key: tuple[Any, Any]) -> Length:
        node, dim = key
        return facts.lengths[node][dim] if isinstance(node, fx.Node) and dim is not None else unknown(key)

    try:
        found: Length = substituted(length, value)
    except ArithmeticError:  # a division by a length of 0
        return length
    return found


def _own_length(value: fx.Node, dim: int, facts: _Facts) -> Length | None:
    """The length of ``dim`` in terms of the call's operands; None where no shape function says so."""
    known = facts.own.setdefault(value, {})
    if dim not in known:
        known[dim] = _find_own_length(value, dim, facts)
    return known[dim]


def _find_own_length(value: fx.Node, dim: int, facts: _Facts) -> Length | None:
    op, rank = op_of(value), _rank(value, facts)
    if op is None:
        return None
    dim = dim % rank if rank else dim
    found = set()
    for _, lengths in _lengths_by_rank(op, value, facts, _unknown, dim < 0):
        if (rank is None or len(lengths) == rank) and -len(lengths) <= dim < len(lengths):
            found.add(lengths[dim])
    return found.pop() if len(found) == 1 else None


def _length_for_readers(value: fx.Node) -> int | None:
    """The length of the last dim that the linear layers and norms of rows that read ``value`` take: no other works."""
    taken = (_length_taken(reader) for reader in value.users if reader.args and reader.args[0] is value)
    return next((length for length in taken if length is not None), None)


def _length_taken(reader: fx.Node) -> int | None:
    """The length of its operand's last dim that a call takes, and no other."""
    op = op_of(reader)
    if op is TABLE["linear"]:
        weight: Any = reader.args[1]
        return int(weight.meta["shape"][1]) if weight.op == "get_attr" and "shape" in weight.meta else None
    if op in (TABLE["layer_norm"], TABLE["rms_norm"]):
        return int(reader.kwargs["normalized_shape"][-1])  # type: ignore[index,arg-type]
    return None


def channel_dim(conv: fx.Node) -> int:
    """The dim of a convolution's result that its weight's first dim is: 1, or 0 where there is no batch."""
    rank, of_weight = rank_of(conv), rank_of(conv.args[1])
    return 1 if rank is None or of_weight is None else rank - of_weight + 1
