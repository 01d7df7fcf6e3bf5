"""Channels that dwarf the others, in transformers: linear layers read their input rotated, by weights that undo it."""

from __future__ import annotations

from functools import partial

from torch import Tensor, fx

from qfx.ir.nodes import PLACE
from qfx.ir.types import QDType
from qfx.ops.calls import activations, arguments
from qfx.ops.extents import extent_of
from qfx.ops.rotation.reference import BLOCKS, hadamard, rotate
from qfx.ops.table import is_op, op_at, op_of
from qfx.ops.terms import Folded, Term
from qfx.passes.preparation import Preparation
from qfx.patterns.pattern import Match
from qfx.patterns.replacement import Replacer

LONGEST = 64
"""Blocks are no longer: longer ones leave as large an error, and cost more."""

RULE = "rotate_input"


def rotate_inputs(gm: fx.GraphModule, told: Preparation) -> fx.GraphModule:
    """Puts a rotation in front of the linear layers of a transformer, and into their weights.

    A transformer is a graph with an attention. Layers that read a normalization, an attention, the activation of an
    MLP or a gated one, directly or through moves of elements, are rotated where they are to be int8 and a block divides
    their width.
    """
    if not told.recovery.rotation or not any(is_op(node, "attention") for node in gm.graph.nodes):
        return gm
    replacer, rotated = Replacer(gm), dict[fx.Node, fx.Node]()
    for node in list(gm.graph.nodes):
        block = _block(node) if is_op(node, "linear") and _is_quantized(node) else None
        if block is None:
            continue
        given = arguments(op_at(node), node)
        x = given["x"]
        if x not in rotated:
            rotated[x] = _rotation(gm.graph, x, block)
        weight = Folded("weight", partial(rotated_weight, block=block), (given["weight"],))
        layer = Term("linear", (rotated[x], weight, given["bias"], given["residual"]), dict(node.kwargs), like=node)
        new = replacer.replace(Match(node, {}, frozenset({node})), layer, RULE)
        new.meta["recovery"] = (
            *node.meta.get("recovery", ()),
            f"its input rotated in blocks of {block}",
        )
    gm.graph.lint()
    gm.recompile()
    return gm


def rotated_weight(weight: Tensor, *, block: int) -> Tensor:
    """``[O, C]`` weights for a rotated input: the rotation is its own inverse, so they are rotated too, in float64."""
    blocks = weight.double().reshape(len(weight), -1, block)
    return (blocks @ hadamard(block).to(weight.device)).reshape(weight.shape).to(weight.dtype)


def _is_quantized(node: fx.Node) -> bool:
    qconfig = node.meta.get("qconfig")
    if qconfig is None or qconfig.weight_only:
        return False
    return not qconfig.is_dynamic or qconfig.weight().dtype is QDType.qint8


def _block(node: fx.Node) -> int | None:
    """The longest block of a layer's input that may be rotated; None where it may not, or has none."""
    given = arguments(op_at(node), node)
    weight, x = given["weight"], given["x"]
    if not (isinstance(weight, fx.Node) and weight.op == "get_attr" and _has_outliers(x)):
        return None
    width = extent_of(weight, 1)
    return next((b for b in reversed(BLOCKS) if b <= LONGEST and width is not None and width % b == 0), None)


def _has_outliers(x: fx.Node) -> bool:
    """Whether what makes a value, behind moves of elements, gives some channels more than others."""
    op = op_of(x)
    while op is not None and op.qparams == "share" and len(moved := list(activations(op, x))) == 1:
        x = moved[0]
        op = op_of(x)
    return op is not None and op.has_outliers


def _rotation(graph: fx.Graph, x: fx.Node, block: int) -> fx.Node:
    with graph.inserting_after(x):
        made = graph.call_function(rotate, (x,), {"block": block})
    kept = (*PLACE, "extents", "qconfig", "qconfig_rule")
    made.meta.update({key: x.meta[key] for key in kept if key in x.meta})
    return made
