"""A graph as text: one line a node, stable enough for golden files."""

from __future__ import annotations

from typing import Any

from torch import fx


def print_graph(graph: fx.Graph) -> str:
    """One line a node: ``name = target(args) @ module path``."""
    return "\n".join(print_node(node) for node in graph.nodes) + "\n"


def print_node(node: fx.Node) -> str:
    """The node's line in :func:`print_graph`."""
    path = f"  @ {node.meta['module_path']}" if node.meta.get("module_path") else ""
    if node.op == "output":
        return f"return {_show(node.args[0])}"
    if node.op == "placeholder":
        return f"{node.name} = input{path}"
    if node.op == "get_attr":
        return f"{node.name} = {node.target}"
    arguments = [_show(a) for a in node.args] + [f"{k}={_show(v)}" for k, v in node.kwargs.items()]
    return f"{node.name} = {_target(node)}({', '.join(arguments)}){path}"


def _target(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))


def _show(value: Any) -> str:
    if isinstance(value, fx.Node):
        return f"%{value.name}"
    if isinstance(value, (tuple, list)):
        text = ", ".join(_show(v) for v in value)
        return f"[{text}]" if isinstance(value, list) else f"({text}{',' if len(value) == 1 else ''})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {_show(v)}" for k, v in value.items()) + "}"
    return repr(value)
