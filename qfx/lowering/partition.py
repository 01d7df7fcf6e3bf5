"""Split an Int8 graph into as few programs as its torch nodes allow."""

from __future__ import annotations

from torch import fx

from qfx.lowering.compiled import Segment, read_by
from qfx.lowering.int8 import is_dim


def partition(graph: fx.Graph) -> list[Segment]:
    """Segments in execution order; each takes every node of its kind that is ready.

    Shapes do not pass from program to program: each computes those that it needs from tensors.
    """
    pending = [n for n in graph.nodes if n.op not in ("placeholder", "get_attr", "output")]
    order = {n: i for i, n in enumerate(graph.nodes)}
    done = {n for n in graph.nodes if n.op in ("placeholder", "get_attr")}
    parts: list[tuple[bool, list[fx.Node]]] = []
    in_torch = False
    while pending:
        taken = _ready(pending, done, in_torch)
        if taken:
            done.update(taken)
            pending = [n for n in pending if n not in done]
            parts.append((in_torch, taken if in_torch else sorted(_with_dims(taken), key=order.__getitem__)))
        in_torch = not in_torch
    wanted = {n for _, nodes in parts for n in read_by(nodes)} | set(graph.output_node().all_input_nodes)
    segments = [Segment.of(in_torch, nodes, wanted) for in_torch, nodes in parts]
    return [s for s in segments if s.in_torch or not all(map(is_dim, s.outputs))]


def _with_dims(nodes: list[fx.Node]) -> set[fx.Node]:
    """``nodes`` and the shape arithmetic that they need, which other segments may hold too."""
    found, queue = set(nodes), list(nodes)
    while queue:
        needed = [i for i in queue.pop().all_input_nodes if i not in found and is_dim(i)]
        found.update(needed)
        queue.extend(needed)
    return found


def _ready(pending: list[fx.Node], done: set[fx.Node], in_torch: bool) -> list[fx.Node]:
    """Nodes of one kind whose inputs are done or taken before them; ``pending`` is in graph order."""
    taken: list[fx.Node] = []
    reached = set(done)
    for node in pending:
        if bool(node.meta.get("in_torch")) == in_torch and all(i in reached for i in node.all_input_nodes):
            taken.append(node)
            reached.add(node)
    return taken
