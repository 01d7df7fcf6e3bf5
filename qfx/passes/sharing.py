"""Which values of a group that shares quantization parameters are better off with their own.

Ops that join values (a concatenation, padding with a value) need one scale for their result. An operand much narrower
than the result loses its digits there; but what else reads it need not lose them. So each operand of a join that
something else reads is observed on its own too, and conversion, which knows the ranges, decides: where they are
:data:`~qfx.quantization.observer.base.APART`, the operand keeps its own parameters and is requantized, through a table,
on its way into the join.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from networkx.utils import UnionFind
from torch import fx

from qfx.ir.nodes import operand
from qfx.ops.calls import activations, arguments
from qfx.ops.table import op_at, op_of
from qfx.quantization.observer.base import APART

Part = tuple[fx.Node, ...]
"""Members of a group that share parameters whatever the ranges are."""

Readers = Mapping[fx.Node, Collection[fx.Node]]
"""What reads each node's rounded value: int8 ops its integers, anything else what those of an int8 node stand for."""


@dataclass(frozen=True)
class Class:
    """Members of a group that end up with the same parameters.

    Attributes:
        parts: Its parts.
        sources: Parts whose ranges the parameters have to hold: its own, and what is requantized on the way in.
    """

    parts: tuple[Part, ...]
    sources: tuple[Part, ...]


def joins(node: fx.Node) -> bool:
    """Whether the node is a sharing op whose result holds more than one operand's range."""
    op = op_of(node)
    return op is not None and op.qparams == "share" and (op.tensors != ("x",) or pads_with_value(node))


def pads_with_value(node: fx.Node) -> bool:
    """Whether the node's range is not within its operand's: it puts a value beside it."""
    op = op_of(node)
    return op is not None and op.name == "pad" and arguments(op, node).get("value") not in (None, 0, 0.0)


def asks_size(node: fx.Node) -> bool:
    """Whether the node reads sizes, and no values."""
    op = op_of(node)
    return op is not None and op.name == "size"


def observed(node: fx.Node) -> fx.Node:
    """The value that a node reads, behind the observers in front of it."""
    while "observer" in node.meta:
        node = operand(node)
    return node


def parts_of(members: Sequence[fx.Node], shares: Callable[[fx.Node], bool]) -> tuple[Part, ...]:
    """The parts of a group, in graph order.

    Args:
        members: The group's, in graph order.
        shares: Whether a member has its operands' parameters.
    """
    union: UnionFind = UnionFind(members)
    for node in members:
        if shares(node) and not joins(node):
            union.union(node, *_operands(node))
    found: dict[fx.Node, list[fx.Node]] = {}
    for node in members:
        found.setdefault(union[node], []).append(node)
    return tuple(map(tuple, found.values()))


def _operands(node: fx.Node) -> list[fx.Node]:
    op = op_at(node)
    return [observed(n) for n in activations(op, node)]


def may_split(parts: Sequence[Part], readers: Readers) -> bool:
    """Whether some part is an operand of a join and has another reader, which its own range would serve better."""
    return len(parts) > 1 and any(_is_shared_operand(part, readers) for part in parts)


def _is_shared_operand(part: Part, readers: Readers) -> bool:
    outside = {r for n in part for r in readers.get(n, ()) if r not in part}
    return len(outside) > 1 and any(map(joins, outside))


def split(
    parts: Sequence[Part],
    width: Callable[[Part], float],
    shares: Callable[[fx.Node], bool],
    readers: Readers,
) -> tuple[tuple[Class, ...], tuple[tuple[fx.Node, fx.Node], ...]]:
    """The classes of a group once ranges are known, and what is requantized: pairs of an operand and a join.

    Args:
        parts: The group's.
        width: Width of the range that a part's own sources need; 0 where it has none.
        shares: Whether a member has its operands' parameters.
        readers: As of the whole graph.
    """
    home = {node: part for part in parts for node in part}
    union: UnionFind = UnionFind(parts)
    apart: list[tuple[fx.Node, fx.Node]] = []

    def reach(part: Part) -> float:
        return max(width(p) for p in parts if union[p] == union[part])

    for node in (n for part in parts for n in part if shares(n) and joins(n)):
        operands = _operands(node)
        widest = max(reach(home[n]) for n in (*operands, node))
        for n in operands:
            narrow = reach(home[n]) * APART < widest
            if narrow and _is_shared_operand(home[n], readers):
                apart.append((n, node))
            else:
                union.union(home[n], home[node])
    apart = [(n, join) for n, join in apart if union[home[n]] != union[home[join]]]
    classes: dict[Part, list[Part]] = {}
    for part in parts:
        classes.setdefault(union[part], []).append(part)
    entering = {root: [home[n] for n, join in apart if union[home[join]] == root] for root in classes}
    return tuple(Class(tuple(own), (*own, *entering[root])) for root, own in classes.items()), tuple(apart)
