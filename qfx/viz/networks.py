"""``qfx.to_networkx``: a model's graph for computing on it."""

from __future__ import annotations

from typing import Any

import networkx

from qfx.arguments import explained
from qfx.viz.heat import heat_of
from qfx.viz.read import read


@explained
def to_networkx(
    model: Any, *, level: str | None = None, sqnr: Any = None, time: Any = None, example_inputs: Any = None
) -> networkx.DiGraph:
    """The graph that :func:`qfx.draw` draws.

    A node is called as in reports and comparisons, and has the attributes ``op``, ``title`` (with what is fused),
    ``kind`` (how it computes: ``"int8"``, ``"float"``, ``"opaque"`` ...), ``module_path``, ``source``, ``reason``,
    ``dtype``, ``shape``, ``qparams``, ``fused``, ``rules``; an edge has ``dtype``, ``shape`` and ``qparams`` of what
    flows along it. Nodes with a measured number have ``sqnr`` (dB) and ``time`` (percent of all).

    Args:
        model: As of :func:`qfx.draw`, as are ``level`` and ``example_inputs``.
        level: See there.
        sqnr: A :class:`qfx.Comparison`.
        time: What ``qmodel.profile(x)`` returned.
        example_inputs: See there.

    Raises:
        InputError: As :func:`qfx.draw`.
    """
    scene = read(model, level, example_inputs)
    graph = networkx.DiGraph(level=scene.level)
    for box in scene.boxes:
        value = box.value
        graph.add_node(
            box.name, op=box.op, title=box.title, kind=box.kind, module_path=box.module_path, source=box.source,
            reason=box.reason, dtype=value.dtype, shape=value.shape, qparams=value.qparams, fused=box.fused,
            rules=box.rules,
        )  # fmt: skip
    for arrow in scene.arrows:
        value = arrow.value
        graph.add_edge(arrow.source, arrow.target, dtype=value.dtype, shape=value.shape, qparams=value.qparams)
    for name, given in (("sqnr", sqnr), ("time", time)):
        heat = heat_of(given)
        for node, number in heat.values.items() if heat is not None else ():
            if node in graph:
                graph.nodes[node][name] = number
    return graph
