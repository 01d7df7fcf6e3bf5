"""The verifier: each kind of violation is found, named, and belongs to its level."""

from __future__ import annotations

import operator
from collections.abc import Callable

import pytest
import torch
from torch import fx, nn

from qfx.ir.levels import LEVELS, violations
from qfx.ops import qdq
from qfx.ops.compute import reference as compute
from qfx.ops.shape import reference as shape
from qfx.ops.table import op_of


def _op_name(target: object) -> str | None:
    op = op_of(target)
    return op.name if op else None


def _graph(build: Callable[[fx.Graph, fx.Node], fx.Node]) -> fx.GraphModule:
    graph = fx.Graph()
    graph.output(build(graph, graph.placeholder("x")))
    root = nn.Module()
    root.relu = nn.ReLU()
    return fx.GraphModule(root, graph)


def _marked(node: fx.Node, **meta: object) -> fx.Node:
    node.meta.update(meta)
    return node


def _missing_module(graph: fx.Graph, x: fx.Node) -> fx.Node:
    return _marked(graph.create_node("call_module", "gone", (x,)), opaque_reason="named")


BROKEN = {
    "no table op": ("normal", lambda g, x: g.call_function(torch.relu, (x,)), "no table op"),
    "a method": ("normal", lambda g, x: g.call_method("relu", (x,)), "unmarked call_method"),
    "a module": ("normal", lambda g, x: g.call_module("relu", (x,)), "unmarked call_module"),
    "an observer": ("normal", lambda g, x: _marked(g.call_module("relu", (x,)), observer="relu"), "without observers"),
    "an observer in QDQ": ("qdq", lambda g, x: _marked(g.call_module("relu", (x,)), observer="relu"), "is an observer"),
    "quantize": ("normal", lambda g, x: g.call_function(qdq.quantize, (x, x, x), {"dtype": "quint8"}), "quantizes"),
    "dequantize": ("observed", lambda g, x: g.call_function(qdq.dequantize, (x, x, x)), "quantizes"),
    "untyped": ("int8", lambda g, x: g.call_function(compute.add, (x, x)), "no value type"),
    "a module that is not there": ("captured", _missing_module, "'gone', which does not exist"),
}


@pytest.mark.filterwarnings("ignore:.*does not reference an nn.Module:UserWarning")
@pytest.mark.parametrize("kind", BROKEN)
def test_each_violation_is_named(kind: str) -> None:
    level, build, message = BROKEN[kind]
    gm = _graph(lambda g, x: g.call_function(compute.add, (x, x)))
    if "gone" in message:
        last = gm.graph.output_node()
        with gm.graph.inserting_before(last):
            build(gm.graph, gm.graph.find_nodes(op="placeholder")[0])
    else:
        gm = _graph(build)
    found = list(map(str, violations(gm, LEVELS[level], _op_name)))
    assert any(message in text for text in found)
    assert len(found) == len([text for text in found if message in text])


SOUND = {
    "a table op": ("normal", lambda g, x: g.call_function(compute.add, (x, x))),
    "a shape": ("normal", lambda g, x: g.call_function(operator.floordiv, (g.call_function(shape.size, (x,)), 2))),
    "an island": ("normal", lambda g, x: _marked(g.call_module("relu", (x,)), opaque_reason="why")),
    "a failed trace": ("normal", lambda g, x: _marked(g.call_module("relu", (x,)), island_reason="why")),
    "an observer": ("observed", lambda g, x: _marked(g.call_module("relu", (x,)), observer="relu")),
    "quantize": ("qdq", lambda g, x: g.call_function(qdq.quantize, (x, x, x), {"dtype": "quint8"})),
    "anything captured": ("captured", lambda g, x: g.call_method("relu", (x,))),
}


@pytest.mark.parametrize("kind", SOUND)
def test_what_a_level_allows_is_no_violation(kind: str) -> None:
    level, build = SOUND[kind]
    assert list(violations(_graph(build), LEVELS[level], _op_name)) == []


def test_typed_graphs_need_a_type_on_inputs_too() -> None:
    gm = _graph(lambda g, x: _marked(g.call_function(compute.add, (x, x)), value_type="float"))
    assert [str(found).split(":")[0].split()[0] for found in violations(gm, LEVELS["int8"], _op_name)] == ["%x"]
