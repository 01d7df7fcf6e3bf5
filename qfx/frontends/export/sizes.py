"""Dim values of an exported graph, read where the user reads them: from the tensor nearest to their use.

The exporter computes every length from the lengths of the inputs. A tensor close by that has the length says the same
with no arithmetic, and as the symbolic frontend does.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import torch
from torch import Tensor, fx


def read_nearest_sizes(graph: fx.Graph) -> None:
    """Replaces computed dim values in the arguments of tensor ops by the sizes of tensors, where one has them.

    A length that a module has read already is read from the same tensor again.
    """
    read: dict[Any, fx.Node] = {}
    for node in list(graph.nodes):
        if node.op == "call_function" and _expression(node) is None:
            for operand in node.all_input_nodes:
                expression = _expression(operand)
                if expression is not None and expression.is_number:
                    _fix(node, operand, int(expression))
                elif expression is not None:
                    node.replace_input_with(operand, _nearest(operand, node, read))


def _fix(node: fx.Node, operand: fx.Node, value: int) -> None:
    """Puts a number in the place of a dim value that the exporter found to be constant."""
    node.args, node.kwargs = fx.node.map_arg((node.args, node.kwargs), lambda arg: value if arg is operand else arg)


def _expression(node: fx.Node) -> Any:
    """The symbolic value of a node that computes an integer."""
    value = node.meta.get("val")
    return value.node.expr if isinstance(value, torch.SymInt) else None


def _nearest(value: fx.Node, user: fx.Node, read: dict[Any, fx.Node]) -> fx.Node:
    """The node of ``value`` for ``user``: a size of a tensor behind it, or else the arithmetic on such sizes."""
    key = (_expression(value), user.meta.get("module_path"))
    if key in read:
        return read[key]
    found, graph = _tensor_with(_expression(value), user), user.graph
    if found is not None:
        with graph.inserting_before(user):
            made = graph.call_function(torch.ops.aten.sym_size.int, found)
        made.meta.update(value.meta)
    else:
        operands = [operand for operand in value.all_input_nodes if _expression(operand) is not None]
        changed = {operand: _nearest(operand, user, read) for operand in operands}
        if all(old is new for old, new in changed.items()):
            return value
        with graph.inserting_before(user):
            made = graph.node_copy(value, lambda operand: changed.get(operand, operand))
    read[key] = made
    return made


def _tensor_with(expression: Any, user: fx.Node) -> tuple[fx.Node, int] | None:
    """The tensor nearest behind ``user``, breadth first, with a dim of length ``expression``, and that dim."""
    pending, seen = deque(user.all_input_nodes), set()
    while pending:
        node = pending.popleft()
        if node in seen:
            continue
        seen.add(node)
        value = node.meta.get("val")
        if isinstance(value, Tensor):
            for dim, extent in enumerate(value.shape):
                if isinstance(extent, torch.SymInt) and extent.node.expr == expression:
                    return node, dim
            pending.extend(node.all_input_nodes)
        elif isinstance(value, (tuple, list)):
            pending.extend(node.all_input_nodes)
    return None
