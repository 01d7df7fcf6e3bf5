"""The values of every node of a model at one level, one after the other, in graph order."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, fx, nn

from qfx.errors import QfxError
from qfx.frontends.fresh import unchanged
from qfx.frontends.state import reachable
from qfx.ir.attributes import attribute
from qfx.ir.module import node_failure
from qfx.ir.nodes import operand, path
from qfx.models import PreparedModel, QuantizedModel
from qfx.ops import arithmetic, qdq
from qfx.passes.insert import GROUP
from qfx.passes.wide import PART_OF
from qfx.quantization.control import disable_fake_quant, disable_observer
from qfx.training.model import TrainableModel

Values = Iterator[tuple[str, Any]]
"""Names of nodes with their values; quantized ones dequantized."""


def running_graph(prepared: PreparedModel) -> fx.Graph:
    """The graph that a call of ``prepared`` runs: a trainable model writes it from the one that it converts."""
    return prepared.running_graph() if isinstance(prepared, TrainableModel) else prepared.graph


class Walk:
    """Runs a graph node by node. A value is forgotten after its last use; ``env`` may be changed on the way.

    Parts that keep something from call to call are as they were before.

    Raises:
        InputError: A node that does not run, named.
    """

    def __init__(self, root: nn.Module, graph: fx.Graph, inputs: tuple[Any, ...]) -> None:
        self.interpreter = fx.Interpreter(root, graph=graph)
        self.interpreter.args_iter = iter(inputs)
        self.root, self.graph, self.env = root, graph, self.interpreter.env

    def __iter__(self) -> Iterator[fx.Node]:
        for node in self.graph.nodes:
            if node.op == "output":
                return
            self.env[node] = self._run(node)
            yield node
            for dead in self.interpreter.user_to_last_uses.get(node, ()):
                del self.env[dead]

    def _run(self, node: fx.Node) -> Any:
        try:
            with torch.no_grad(), self._kept(node):
                return self.interpreter.run_node(node)
        except QfxError:
            raise
        except Exception as error:
            raise node_failure(node, error, [self.env[n] for n in node.all_input_nodes]) from error

    def _kept(self, node: fx.Node) -> AbstractContextManager[None]:
        is_island = node.op == "call_module" and "island_reason" in node.meta
        return unchanged(self.root.get_submodule(str(node.target))) if is_island else nullcontext()


def float_copy(prepared: PreparedModel) -> PreparedModel:
    """A copy that neither observes nor quantizes."""
    copy = fake_quantized_copy(prepared)
    return copy.apply(disable_fake_quant)


def fake_quantized_copy(prepared: PreparedModel) -> PreparedModel:
    """A copy in evaluation mode that does not observe."""
    held = [record.value for record in reachable(prepared) if isinstance(record.value, Tensor)]
    memo: dict[int, Any] = {id(v): v.detach().clone() for v in held if not v.is_leaf}  # kept by a part, with gradients
    return deepcopy(prepared, memo).eval().apply(disable_observer)


def graph_values(
    root: nn.Module, graph: fx.Graph, inputs: tuple[Any, ...], put: Mapping[str, Tensor] | None = None
) -> Values:
    """Of a float or prepared graph; the value of an observed node is what leaves its observer.

    Args:
        root: Where modules and parameters are.
        graph: The graph.
        inputs: Values of the placeholders, in order.
        put: Values, by node name, with which the graph goes on in place of its own.
    """
    calls = {n: operand(n).name for n in graph.nodes if _observes_value(n)}
    observed = set(calls.values())
    walk = Walk(root, graph, inputs)
    for node in walk:
        if node in calls or ("observer" not in node.meta and node.name not in observed):
            name = calls.get(node, node.name)
            yield name, walk.env[node]
            if put is not None and name in put:
                walk.env[node] = put[name]


def _observes_value(node: fx.Node) -> bool:
    """Whether the node is the observer of its operand's range, not of what a layer reads."""
    return "observer" in node.meta and operand(node).meta.get(GROUP) == node.meta["observer"]


def qdq_values(model: QuantizedModel, inputs: tuple[Any, ...], put: Mapping[str, Tensor] | None = None) -> Values:
    """Of a QDQ graph in float arithmetic. Arguments as of :func:`graph_values`."""
    codes = set(quantize_nodes(model).values())
    quantized = {operand(n).name for n in model.graph.nodes if n.name in codes}
    walk = Walk(model, model.graph, inputs)
    for node in walk:
        if node.name in codes:
            name, qparams = operand(node).name, [attribute(model, path(operand(node, i))) for i in (1, 2)]
            yield name, arithmetic.dequantize(walk.env[node], qparams[0], qparams[1])
            if put is not None and name in put:
                attributes: dict[str, Any] = dict(node.kwargs)
                walk.env[node] = qdq.quantize(put[name], qparams[0], qparams[1], **attributes)
        elif node.name not in quantized:
            yield node.name, walk.env[node]
            if put is not None and node.name in put:
                walk.env[node] = put[node.name]


def quantize_nodes(model: QuantizedModel) -> dict[str, str]:
    """Name of the quantize node of each quantized value, by the name of the node that makes the value.

    A value that a layer reads in two halves is none: no node has it as 8-bit integers.
    """
    found: dict[str, str] = {}
    for node in model.graph.find_nodes(op="call_function", target=qdq.quantize):
        if PART_OF in node.meta:
            continue
        found.setdefault(operand(node).name, node.name)
    return found


class Stream:
    """Values taken by name, in whatever order; those that nobody will ask for are let go.

    Args:
        values: The values.
        wanted: Names that will be asked for.
        present: Names that ``values`` will give.
    """

    def __init__(self, values: Values, wanted: Collection[str], present: Collection[str]) -> None:
        self.values, self.names = values, set(wanted) & set(present)
        self.held: dict[str, Any] = {}

    def take(self, name: str) -> Any:
        """The value called ``name``, once; None if there is none."""
        if name not in self.names:
            return None
        while name not in self.held:
            made, value = next(self.values, (name, None))
            if made in self.names:
                self.held[made] = value
        return self.held.pop(name)
