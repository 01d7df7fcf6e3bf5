"""A Normal graph as text in which nothing is left that depends on how the model was captured."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree

INHERENT = (
    "Node names: symbolic tracing names a node after the module or function, others after the operator. "
    "Order: nodes that do not need each other may be written in another order; here they follow their results."
)
"""What differs between frontends by nature, and is left out of :func:`dump`."""


def dump(gm: fx.GraphModule) -> str:
    """One line for each node that a result needs: operation, operands, keyword arguments, path, shape and dtype."""
    numbers: dict[fx.Node, int] = {}
    lines: list[str] = []

    def show(value: Any) -> Any:
        if isinstance(value, fx.Node):
            return _attribute(gm, value) if value.op == "get_attr" else f"%{numbers[value]}"
        if isinstance(value, (tuple, list)):
            return f"({', '.join(str(show(item)) for item in value)})"
        return repr(value)

    def write(root: fx.Node) -> None:
        pending = [root]
        while pending:
            node = pending[-1]
            missing = [x for x in node.all_input_nodes if x.op != "get_attr" and x not in numbers]
            if node in numbers or missing:
                pending.extend(reversed(missing)) if missing else pending.pop()
                continue
            pending.pop()
            numbers[node] = len(numbers)
            operation, given_args, given_kwargs = _call(node)
            kwargs = {name: show(value) for name, value in sorted(given_kwargs.items())}
            place = (node.meta.get("module_path", ""), node.meta.get("shape"), node.meta.get("dtype"))
            arguments = [] if node.op == "placeholder" else [show(value) for value in given_args]
            lines.append(f"%{numbers[node]} = {operation}({arguments}, {kwargs}) @ {place}")

    for node in gm.graph.find_nodes(op="placeholder"):
        write(node)
    for node in _results(gm.graph):
        write(node)
    return "\n".join([*lines, f"return {show(gm.graph.output_node().args[0])}"])


def _results(graph: fx.Graph) -> list[fx.Node]:
    leaves = pytree.tree_leaves(graph.output_node().args)
    return [leaf for leaf in leaves if isinstance(leaf, fx.Node) and leaf.op != "get_attr"]


def _call(node: fx.Node) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    """Operation and arguments; those of a torch function outside the table by name as its aten schema has them."""
    name, target = _operation(node), node.target
    function = getattr(target, "_opname", name)
    overload = target if isinstance(target, torch._ops.OpOverload) else _overload(target, function)
    if overload is None:
        return name, node.args, node.kwargs
    schema = overload._schema.arguments
    given = {**dict(zip((a.name for a in schema), node.args, strict=False)), **node.kwargs}
    defaults = {a.name: a.default_value for a in schema if a.has_default_value()}
    return function, (), {k: v for k, v in given.items() if k not in defaults or defaults[k] != v}


def _overload(target: Any, name: str) -> Any:
    """The aten overload that a function of torch calls without more ado."""
    of_torch = getattr(target, "__module__", None) is None or isinstance(target, type(torch.add))
    packet = getattr(torch.ops.aten, name, None) if of_torch and not isinstance(target, str) else None
    return getattr(packet, "default", None)


def _operation(node: fx.Node) -> str:
    if node.op in ("placeholder", "call_module", "call_method"):
        return f"{node.op} {node.target}"
    target: Any = node.target
    return "getitem" if target is operator.getitem else str(getattr(target, "__name__", target))


def _attribute(gm: fx.GraphModule, node: fx.Node) -> str:
    value: Any = gm
    for atom in str(node.target).split("."):
        value = getattr(value, atom)
    assert isinstance(value, torch.Tensor)
    return f"{node.target}: {tuple(value.shape)} {value.double().sum().item():.9g}"
