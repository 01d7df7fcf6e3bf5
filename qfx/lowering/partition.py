"""Split an Int8 graph into as few programs as its torch nodes allow."""

from __future__ import annotations

from dataclasses import dataclass

from torch import fx


@dataclass(frozen=True)
class Segment:
    """Nodes that run together, in order.

    Attributes:
        in_torch: Whether torch runs them, one by one, or the runtime in one call.
        nodes: The nodes.
        inputs: Values from outside that they read.
        outputs: Their values that anything outside reads.
    """

    in_torch: bool
    nodes: tuple[fx.Node, ...]
    inputs: tuple[fx.Node, ...]
    outputs: tuple[fx.Node, ...]


def partition(graph: fx.Graph) -> list[Segment]:
    """Segments in execution order; each takes every node of its kind that is ready."""
    pending = [n for n in graph.nodes if n.op not in ("placeholder", "get_attr", "output")]
    done = {n for n in graph.nodes if n.op in ("placeholder", "get_attr")}
    segments: list[Segment] = []
    in_torch = False
    while pending:
        taken = _ready(pending, done, in_torch)
        if taken:
            done.update(taken)
            pending = [n for n in pending if n not in done]
            segments.append(_segment(taken, in_torch))
        in_torch = not in_torch
    return segments


def _ready(pending: list[fx.Node], done: set[fx.Node], in_torch: bool) -> list[fx.Node]:
    """Nodes of one kind whose inputs are done or taken before them; ``pending`` is in graph order."""
    taken: list[fx.Node] = []
    reached = set(done)
    for node in pending:
        if bool(node.meta.get("in_torch")) == in_torch and all(i in reached for i in node.all_input_nodes):
            taken.append(node)
            reached.add(node)
    return taken


def _segment(nodes: list[fx.Node], in_torch: bool) -> Segment:
    inside = set(nodes)
    inputs = [i for n in nodes for i in n.all_input_nodes if i not in inside and i.op != "get_attr"]
    outputs = [n for n in nodes if any(u not in inside for u in n.users)]
    return Segment(in_torch, tuple(nodes), tuple(dict.fromkeys(inputs)), tuple(outputs))
