"""Marks in a raw trace what stubs and FloatFunctionals say, for the rewrites that would undo it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import fx, nn

from qfx.frontends.constants import parent
from qfx.ir.boundary import OBSERVED_BY, STUBBED, Boundary, boundary_of


def mark_boundaries(graph: fx.Graph, modules: Mapping[str, nn.Module]) -> None:
    """Sets the ``stubbed`` and ``observed_by`` metadata; an operation of a FloatFunctional moves to its path.

    Args:
        graph: A raw trace in which stubs and the observed results of FloatFunctionals are calls of modules.
        modules: The modules of the traced model by path.
    """
    for node in graph.nodes:
        kind = boundary_of(modules.get(str(node.target))) if node.op == "call_module" else None
        inside = any(operand.meta.get(STUBBED, False) for operand in node.all_input_nodes)
        if kind is Boundary.BEGIN or (inside and kind is not Boundary.END):
            node.meta[STUBBED] = True
        for operation in _observed_here(node, modules):
            owner = parent(str(node.target))
            operation.meta.update({OBSERVED_BY: owner, "module_path": owner})


def _observed_here(node: fx.Node, modules: Mapping[str, nn.Module]) -> Iterator[fx.Node]:
    """The nodes of a FloatFunctional's operation, if ``node`` is the observer at its end."""
    path = str(node.target)
    if node.op != "call_module" or not path.endswith("activation_post_process"):
        return
    if boundary_of(modules.get(parent(path))) is not Boundary.RESULT:
        return
    result = node.args[0]
    if isinstance(result, fx.Node):
        yield result
        if result.target is torch.relu:  # of add_relu: no other operation ends in one
            yield from (operand for operand in result.all_input_nodes if operand.target is torch.add)
