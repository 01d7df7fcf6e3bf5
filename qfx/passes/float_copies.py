"""Joins that int8 ops read and an output too: the output gets a copy that joins in float32.

Among integers the parts of a join have one scale, which narrow ones pay for; int8 ops need it, and nothing else does.
"""

from __future__ import annotations

from torch import fx

from qfx.ops.calls import activations
from qfx.ops.table import op_of
from qfx.passes.annotate import ANNOTATION, Annotation, annotate_values
from qfx.passes.precision import codes_read, has_float_step
from qfx.passes.preparation import Preparation
from qfx.passes.sharing import asks_size, joins


def copy_joins_for_floats(gm: fx.GraphModule, preparation: Preparation) -> fx.GraphModule:
    """Let what does not read a join's integers read a copy of it, with the moves behind it; annotate again, then."""
    return annotate_values(gm, preparation) if _copy_joins(gm, gm.meta[ANNOTATION]) else gm


def _copy_joins(gm: fx.GraphModule, annotation: Annotation) -> bool:
    """Copy in place; returns whether there are copies now."""
    behind = _behind_joins(gm.graph, annotation)
    copied = False
    for node in reversed(list(gm.graph.nodes)):  # a copy is a float reader of what it joins
        op = op_of(node)
        if op is None or node not in behind & annotation.wanted or not has_float_step(op, node):
            continue
        readers = [user for user in node.users if not asks_size(user) and not _reads_codes(user, node, annotation)]
        if node in annotation.leaving or not readers:
            continue
        with gm.graph.inserting_after(node):
            twin = gm.graph.node_copy(node)
        for reader in readers:
            reader.replace_input_with(node, twin)
        copied = True
    return copied


def _behind_joins(graph: fx.Graph, annotation: Annotation) -> set[fx.Node]:
    """The int8 joins, and the int8 ops that share their parameters behind them."""
    found: set[fx.Node] = set()
    for node in graph.nodes:
        op = op_of(node)
        if op is None or op.qparams != "share" or not _is_int8(node, annotation):
            continue
        if joins(node) or any(operand in found for operand in activations(op, node)):
            found.add(node)
    return found


def _is_int8(node: fx.Node, annotation: Annotation) -> bool:
    return node in annotation.decisions and annotation.decisions[node].kind == "int8"


def _reads_codes(user: fx.Node, node: fx.Node, annotation: Annotation) -> bool:
    return op_of(user) is not None and _is_int8(user, annotation) and node in codes_read(user, annotation.wanted)
