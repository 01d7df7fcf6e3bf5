"""What a graph may hold at each level, and the one verifier that checks it after every pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import fx

OpName = Callable[[object], "str | None"]
"""Maps a call_function target to the name of its table op, or None."""

DIM_OPS = frozenset({"add", "sub", "mul", "floordiv", "neg", "getitem"})
"""``operator`` functions allowed on integers that describe shapes."""

QDQ_OPS = frozenset({"quantize", "dequantize", "decode_weight"})


@dataclass(frozen=True)
class Level:
    """A row of the level table.

    Attributes:
        name: The level's name.
        table_ops_only: Calls are table ops, shape arithmetic, or nodes marked opaque with a reason.
        observers: Observer submodules (nodes with ``meta["observer"]``) may appear.
        qdq: quantize and dequantize nodes may appear.
        typed: Every node carries ``meta["value_type"]``.
    """

    name: str
    table_ops_only: bool = True
    observers: bool = False
    qdq: bool = False
    typed: bool = False


LEVELS = {
    level.name: level
    for level in (
        Level("captured", table_ops_only=False),
        Level("normal"),
        Level("observed", observers=True),
        Level("qdq", qdq=True),
        Level("int8", qdq=True, typed=True),
    )
}


@dataclass(frozen=True)
class Violation:
    """A node that its level forbids, and why; ``str()`` is one sentence."""

    node: fx.Node
    reason: str

    def __str__(self) -> str:
        return f"{self.node.format_node()}: {self.reason}"


def violations(gm: fx.GraphModule, level: Level, op_name: OpName) -> Iterator[Violation]:
    """Every way in which ``gm`` breaks ``level``'s rules."""
    modules = dict(gm.named_modules())
    for node in gm.graph.nodes:
        reason = _violation(node, level, op_name, modules)
        if reason:
            yield Violation(node, reason)


def _violation(node: fx.Node, level: Level, op_name: OpName, modules: dict[str, object]) -> str | None:
    if level.typed and node.op != "output" and "value_type" not in node.meta:
        return "has no value type"
    if node.op == "call_module" and node.target not in modules:
        return f"names module {node.target!r}, which does not exist"
    if not level.table_ops_only or node.op in ("placeholder", "get_attr", "output"):
        return None
    if "observer" in node.meta:
        return None if level.observers else "is an observer at a level without observers"
    if is_opaque(node):
        return None
    if node.op != "call_function":
        return f"is an unmarked {node.op} at a level of table ops"
    name = op_name(node.target)
    if name in QDQ_OPS and not level.qdq:
        return "quantizes at a level that has no quantized values"
    if name is None and not is_dim_arithmetic(node):
        return "calls a function that is no table op"
    return None


def is_opaque(node: fx.Node) -> bool:
    """Whether the node is a named float island: kept as the user wrote it."""
    return "opaque_reason" in node.meta or "island_reason" in node.meta


def is_dim_arithmetic(node: fx.Node) -> bool:
    """Whether the node computes an integer that describes a shape."""
    return (
        node.op == "call_function"
        and getattr(node.target, "__module__", None) == "_operator"
        and getattr(node.target, "__name__", None) in DIM_OPS
        and not is_opaque(node)
    )
