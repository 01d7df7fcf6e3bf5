"""Branches and loops that an exported graph holds: modules that run one of the graphs, or one again and again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import fx, nn


class Branches(nn.Module):
    """``torch.cond``: one of two graphs on the operands.

    Args:
        taken: Runs where the predicate holds.
        other: Runs where it does not.
    """

    def __init__(self, taken: nn.Module, other: nn.Module) -> None:
        super().__init__()
        self.taken, self.other = taken, other

    def forward(self, predicate: Any, operands: Any = ()) -> Any:
        return (self.taken if predicate else self.other)(*operands)


class Loop(nn.Module):
    """``while_loop``: the body on the carried values while the condition of them holds.

    Args:
        condition: Of the carried values and the operands that stay.
        body: From those to the next carried values.
    """

    def __init__(self, condition: nn.Module, body: nn.Module) -> None:
        super().__init__()
        self.condition, self.body = condition, body

    def forward(self, carried: Any, operands: Any = ()) -> Any:
        while self.condition(*carried, *operands):
            carried = self.body(*carried, *operands)
        return tuple(carried)


_MODULES: Mapping[str, Callable[[nn.Module, nn.Module], nn.Module]] = {"cond": Branches, "while_loop": Loop}


def control_flow(name: str, args: tuple[Any, ...]) -> tuple[nn.Module, tuple[Any, ...]] | None:
    """The module that does what an op with graphs among its arguments does, and its arguments; None for other ops."""
    graphs = [value for value in args if isinstance(value, fx.GraphModule)]
    if name not in _MODULES or len(graphs) != 2:
        return None
    return _MODULES[name](*map(_plain, graphs)), tuple(value for value in args if not isinstance(value, fx.GraphModule))


def _plain(graph_module: fx.GraphModule) -> fx.GraphModule:
    """A copy that pickle takes: without what the exporter keeps on a graph, inner branches and loops as modules too."""
    graph = fx.Graph()
    graph.output(graph.graph_copy(graph_module.graph, {}))
    modules: dict[str, Any] = {}
    for node in list(graph.nodes):
        node.meta.clear()
        read = [graph_module.get_submodule(str(arg.target)) if _is_graph(arg, graph_module) else arg
                for arg in node.args]  # fmt: skip
        found = control_flow(getattr(node.target, "__name__", ""), tuple(read)) if node.op == "call_function" else None
        if found is not None:
            modules[node.name], operands = found
            with graph.inserting_before(node):
                node.replace_all_uses_with(graph.call_module(node.name, operands))
            graph.erase_node(node)
    for node in graph.find_nodes(op="get_attr"):
        if _is_graph(node, graph_module):
            graph.erase_node(node)
        else:
            modules[str(node.target)] = getattr(graph_module, str(node.target))
    return fx.GraphModule(modules, graph)


def _is_graph(value: Any, owner: fx.GraphModule) -> bool:
    read = isinstance(value, fx.Node) and value.op == "get_attr"
    return read and isinstance(getattr(owner, str(value.target), None), fx.GraphModule)
