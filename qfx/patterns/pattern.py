"""Patterns as data, and the rooted DAG matcher that finds them in a graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import fx

from qfx.ops.table import TABLE, Op, is_op

Predicate: TypeAlias = Callable[[fx.Node], bool]
Bindings: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class Pattern:
    """A node and, by position, what its operands are.

    Attributes:
        ops: Rows that match; empty: any value, which the match does not consume.
        operands: Patterns of the leading positional operands.
        name: The name under which the node is bound; the same name twice means the same node.
        where: Predicates on the node.
        commutative: Whether the first two operands match in either order.
        constant: Whether it matches a ``get_attr`` node only.
    """

    ops: tuple[str, ...]
    operands: tuple[Pattern, ...] = ()
    name: str = ""
    where: tuple[Predicate, ...] = ()
    commutative: bool = False
    constant: bool = False

    @property
    def depth(self) -> int:
        """The longest path from the root, in nodes."""
        return 1 + max((operand.depth for operand in self.operands), default=0)


def op(
    ops: str, *operands: Pattern, name: str = "", where: tuple[Predicate, ...] = (), commutative: bool = False
) -> Pattern:
    """A call of one of the rows named in ``ops``, separated by blanks."""
    return Pattern(tuple(ops.split()), operands, name, where, commutative)


def rows(holds: Callable[[Op], bool]) -> str:
    """The names of the rows of which ``holds``, separated by blanks."""
    return " ".join(row.name for row in TABLE.values() if holds(row))


LAYERS = rows(lambda row: row.sums == "weights")
"""What multiplies with weights and adds: what precedes or follows it may be folded into them."""


def value(name: str) -> Pattern:
    """Any operand: a node, a constant, or None."""
    return Pattern((), (), name)


def constant(name: str) -> Pattern:
    """A tensor of the model."""
    return Pattern((), (), name, constant=True)


def single_user(node: fx.Node) -> bool:
    """Nothing else reads the node."""
    return len(node.users) == 1


@dataclass(frozen=True)
class Match:
    """Where a pattern holds.

    Attributes:
        root: The node that the pattern's root matched: the one to be replaced.
        bindings: Nodes and values by pattern name.
        interior: The nodes of the pattern's calls, the root among them.
    """

    root: fx.Node
    bindings: Bindings
    interior: frozenset[fx.Node]

    def __getitem__(self, name: str) -> Any:
        return self.bindings[name]


def matches(pattern: Pattern, root: fx.Node) -> Iterator[Match]:
    """Every way in which ``pattern`` holds at ``root``."""
    for bindings, interior in _match(pattern, root, {}, frozenset()):
        yield Match(root, bindings, interior)


_State: TypeAlias = tuple[dict[str, Any], frozenset[fx.Node]]


def _match(pattern: Pattern, found: Any, bindings: dict[str, Any], interior: frozenset[fx.Node]) -> Iterator[_State]:
    if pattern.name and pattern.name in bindings and bindings[pattern.name] is not found:
        return
    if pattern.name:
        bindings = {**bindings, pattern.name: found}
    if not pattern.ops:
        if not pattern.constant or (isinstance(found, fx.Node) and found.op == "get_attr"):
            yield bindings, interior
        return
    if not is_op(found, *pattern.ops) or not all(predicate(found) for predicate in pattern.where):
        return
    yield from _match_operands(pattern, found, bindings, interior | {found})


def _match_operands(
    pattern: Pattern, node: fx.Node, bindings: dict[str, Any], interior: frozenset[fx.Node]
) -> Iterator[_State]:
    operands = list(node.args[: len(pattern.operands)])
    operands += [None] * (len(pattern.operands) - len(operands))
    orders = [operands]
    if pattern.commutative and operands[0] is not operands[1]:
        orders.append([operands[1], operands[0], *operands[2:]])
    for order in orders:
        states: list[_State] = [(bindings, interior)]
        for operand, found in zip(pattern.operands, order, strict=True):
            states = [after for state in states for after in _match(operand, found, *state)]
        yield from states
