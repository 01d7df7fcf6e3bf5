"""Reading fx nodes with the types that a graph at our levels guarantees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import fx

NO_ENTRY = "no entry"
"""``meta["qconfig_rule"]`` of a node that no entry of the qconfig_dict names."""

PLACE = ("module_path", "source", "shape", "dtype", "batch_dim")
"""Metadata that says where a value comes from and what it is; derived nodes inherit it."""

DEFAULT = "default"
"""Metadata of a placeholder: its default value, where that is nothing that generated code can say."""


def has_default(node: fx.Node) -> bool:
    """Whether a placeholder has a default value."""
    return bool(node.args) or DEFAULT in node.meta


def default_of(node: fx.Node) -> Any:
    """The default value of a placeholder that has one."""
    return node.args[0] if node.args else node.meta[DEFAULT]


@dataclass(frozen=True)
class Decision:
    """What happens to a node.

    Attributes:
        kind: ``"int8"``, ``"dynamic"`` (integer weights, activations quantized per call), ``"weight_only"`` (weights in
            fewer bits, arithmetic in float32) or ``"float"``.
        reason: Why, in words for the report.
    """

    kind: Literal["int8", "dynamic", "weight_only", "float"]
    reason: str


_UNDECIDED = Decision("float", "")


def decision_of(node: fx.Node) -> Decision:
    """What was decided for ``node``; float without a reason where nothing was."""
    decided = node.meta.get("decision", _UNDECIDED)
    assert isinstance(decided, Decision), f"{node.name} carries {decided!r}"
    return decided


def decide(node: fx.Node, decision: Decision) -> None:
    """Record what was decided for ``node``."""
    node.meta["decision"] = decision


def operand(node: fx.Node, index: int = 0) -> fx.Node:
    """Positional argument ``index``, which is a node."""
    value = node.args[index]
    assert isinstance(value, fx.Node), f"{node.format_node()} has no node at {index}"
    return value


def keyword(node: fx.Node, name: str) -> Any:
    """A keyword argument, None when absent."""
    return node.kwargs.get(name)


def path(node: fx.Node) -> str:
    """The dotted path that a get_attr or call_module node names."""
    assert isinstance(node.target, str), f"{node.format_node()} names no path"
    return node.target


def outputs(graph: fx.Graph) -> list[fx.Node]:
    """The nodes that a graph returns, in order; one that is returned twice is listed twice."""
    found: list[fx.Node] = []
    fx.node.map_arg(graph.output_node().args, found.append)
    return found


def place(node: fx.Node) -> dict[str, Any]:
    """Metadata for a node derived from ``node``."""
    return {key: node.meta.get(key) for key in PLACE}
