"""Removal of what nothing reads: nodes, doubled reads of one tensor, tensors and empty submodules."""

from __future__ import annotations

from collections.abc import Iterable

from torch import fx, nn


def eliminate_dead_code(graph_module: fx.GraphModule) -> fx.GraphModule:
    """Removes nodes without a reader, second reads of a tensor, and tensors and modules that no node uses."""
    graph = graph_module.graph
    _merge_reads(graph)
    graph.eliminate_dead_code()
    _drop_tensors(graph_module, {str(node.target) for node in graph.nodes if node.op == "get_attr"})
    graph_module.recompile()
    return graph_module


def _merge_reads(graph: fx.Graph) -> None:
    first: dict[str, fx.Node] = {}
    for node in graph.find_nodes(op="get_attr", sort=True):
        kept = first.setdefault(str(node.target), node)
        if kept is not node:
            node.replace_all_uses_with(kept)
            graph.erase_node(node)


def _drop_tensors(graph_module: fx.GraphModule, read: Iterable[str]) -> None:
    called = [str(node.target) for node in graph_module.graph.nodes if node.op == "call_module"]
    kept = set(read)
    for path, module in list(graph_module.named_modules()):
        if any(path == target or path.startswith(f"{target}.") for target in called):
            continue
        for name in [*module._parameters, *module._buffers]:
            if (f"{path}.{name}" if path else name) not in kept:
                delattr(module, name)
    _drop_empty(graph_module, "", called)


def _drop_empty(module: nn.Module, path: str, called: Iterable[str]) -> None:
    for name, child in list(module.named_children()):
        where = f"{path}.{name}" if path else name
        if where in called:
            continue
        _drop_empty(child, where, called)
        if not (child._parameters or child._buffers or child._modules):
            delattr(module, name)
