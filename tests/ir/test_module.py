"""GraphCarrier: deepcopy and pickle of graphs with every kind of argument; binding of inputs; failures by node."""

from __future__ import annotations

import copy
import operator
import pickle
from collections import namedtuple
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from qfx.errors import InputError
from qfx.ir.module import GraphCarrier, copy_graph
from qfx.ir.printer import print_graph

Pair = namedtuple("Pair", ["left", "right"])


def tangle(x: Tensor, nested: Any, *, options: Any) -> Tensor:
    """A call whose arguments nest tuples, lists, dicts, slices and named tuples."""
    (a, [b, pair]), part = nested, options["slice"]
    assert type(pair) is Pair
    return (x + a * b + pair.left)[part] * pair.right


def _gm() -> fx.GraphModule:
    root = nn.Module()
    root.inner = nn.Module()
    root.inner.weight = nn.Parameter(torch.arange(4.0))
    root.inner.register_buffer("hidden", torch.ones(1), persistent=False)
    graph = fx.Graph()
    x, y = graph.placeholder("x"), graph.placeholder("y", default_value=2.0)
    weight, hidden = graph.get_attr("inner.weight"), graph.get_attr("inner.hidden")
    end = graph.call_method("size", (x, 0))
    nested = ((weight, [y, Pair(hidden, 3)]),)[0]
    made = graph.call_function(tangle, (x, nested), {"options": {"slice": slice(1, end, None)}})
    made.meta.update(module_path="inner", source="net.py:3, in forward: tangle(x)")
    half = graph.call_function(operator.getitem, (made, slice(None, 2)))
    graph.output({"out": [half, None], "raw": (made,)})
    gm = fx.GraphModule(root, graph)
    gm.meta["fact"] = [1, 2]
    return gm


@pytest.fixture
def carrier() -> GraphCarrier:
    return GraphCarrier(_gm(), "normal")


X = torch.arange(4.0)


def _same(a: Any, b: Any) -> bool:
    return torch.equal(a["out"][0], b["out"][0]) and torch.equal(a["raw"][0], b["raw"][0]) and a["out"][1] is None


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))], ids=["deepcopy", "pickle"])
def test_copies_are_equal_and_independent(carrier: GraphCarrier, copied: Any) -> None:
    want = carrier.run_graph(X, 2.0)
    twin = copied(carrier)
    assert print_graph(twin.graph) == print_graph(carrier.graph)
    assert (twin.level, twin.info) == ("normal", {"fact": [1, 2], **twin.info})
    assert [n.meta for n in twin.graph.nodes] == [n.meta for n in carrier.graph.nodes]
    assert _same(twin.run_graph(X, 2.0), want)
    twin.inner.weight.data.zero_()
    twin.info["fact"].append(3)
    assert _same(carrier.run_graph(X, 2.0), want)
    assert carrier.info["fact"] == [1, 2]


def test_a_copied_graph_has_its_own_nodes_and_metadata(carrier: GraphCarrier) -> None:
    twin = copy_graph(carrier.graph)
    twin.lint()
    for ours, theirs in zip(carrier.graph.nodes, twin.nodes, strict=True):
        assert ours is not theirs
        assert ours.name == theirs.name
        theirs.meta["new"] = 1
        assert "new" not in ours.meta


def test_parameters_and_buffers_keep_their_paths(carrier: GraphCarrier) -> None:
    assert [name for name, _ in carrier.named_parameters()] == ["inner.weight"]
    assert [name for name, _ in carrier.named_buffers()] == ["inner.hidden"]


def test_a_pass_gets_a_copy_of_the_graph(carrier: GraphCarrier) -> None:
    before = print_graph(carrier.graph)
    gm = carrier.graph_module()
    gm.graph.output_node().args = (None,)
    assert print_graph(carrier.graph) == before
    assert gm.meta["fact"] == [1, 2]


def test_binding_follows_pythons_rules(carrier: GraphCarrier) -> None:
    assert carrier.bind((1,), {}) == (1, 2.0)
    assert carrier.bind((1, 3), {}) == (1, 3)
    assert carrier.bind((), {"y": 3, "x": 1}) == (1, 3)
    for args, kwargs in [((), {}), ((1, 2, 3), {}), ((1,), {"x": 1}), ((1,), {"z": 1})]:
        with pytest.raises(InputError) as caught:
            carrier.bind(args, kwargs)
        assert caught.value.remedy


def test_a_failure_names_the_node_that_failed(carrier: GraphCarrier) -> None:
    with pytest.raises(InputError) as caught:
        carrier.run_graph(torch.zeros(3), 2.0)
    assert caught.value.what.startswith("tangle does not run on inputs float32 (3,), float")
    assert (caught.value.where, caught.value.source) == ("inner", "net.py:3, in forward: tangle(x)")
    assert isinstance(caught.value.__cause__, RuntimeError)
