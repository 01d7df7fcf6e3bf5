"""``to_networkx``: the graph with what is known of its nodes."""

from __future__ import annotations

import networkx

import qfx
from tests.viz.models import images, residual


def test_nodes_and_edges_have_what_the_picture_shows() -> None:
    model, _, qmodel = residual()
    compared = qfx.compare(model, qmodel, [images()])
    graph = qfx.to_networkx(qmodel, sqnr=compared, time=qmodel.profile(images(), repeats=1))
    assert networkx.is_directed_acyclic_graph(graph)
    conv = graph.nodes["conv1"]
    record = next(r for r in qmodel.report if r.name == "conv1")
    assert (conv["op"], conv["kind"], conv["module_path"], conv["source"]) == ("conv", "int8", "conv1", record.source)
    assert conv["qparams"] == record.qparams
    assert conv["sqnr"] == compared["conv1"].total.sqnr
    assert 0 < conv["time"] < 100
    reads = next(graph.predecessors("conv1"))
    assert graph.edges[reads, "conv1"]["dtype"] == "quint8"
    assert nodes_of(qfx.to_networkx(model)) > {"conv1", "bn1"}


def nodes_of(graph: networkx.DiGraph) -> set[str]:
    return set(graph.nodes)
