"""Layers whose input 8 bits with one scale can't hold: which those may be, how few bits it keeps, what is done.

Behind a square, an exponential or their inverses a few values are large and most are small: of magnitudes and power
spectra 8 bits keep little but the peaks. What a layer reads in front of such an op is no better off, as small results
count there as much as large ones. Calibration tells whether that is so. Then the layer reads 16 bits, in two halves of
8: the input as it would be without this rule, over its whole range, and what that leaves, in steps 254 times as fine.
The layer is linear, so it multiplies each half with the same weights, and the two float32 results are added.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import fx

from qfx.ir.nodes import Decision, decide, operand, place
from qfx.ir.types import QParams
from qfx.ops.calls import activations, arguments
from qfx.ops.table import TABLE, Op, op_at, op_of
from qfx.passes.precision import contracts, expands, has_float_step, leading_to, only_read_by, products_with_reciprocals
from qfx.quantization.observer import HistogramObserver, Observer
from qfx.quantization.observer.bins import bin_grid

WIDE = "its input read in 16 bits, as two halves, as 8 would keep less than half their digits of most of its values"
"""What the report says of such a layer."""

PART_OF = "part_of"
"""Node metadata: name of the layer whose 16-bit input a node helps to compute, or which adds up its two halves."""

COMPUTES = "computes"
"""Node metadata: name of the layer for whose high half a node stands; the report tells of the layer there."""

FEW_BITS = 4.0
"""Half of 8."""

_PART = Decision("float", "part of a layer whose input is read in 16 bits")


# ---------------------------------------------------------------- which layers


def may_read_wide(nodes: Sequence[fx.Node]) -> set[fx.Node]:
    """The layers of a Normal graph that read a range that was spread, or whose result only such ops read."""
    tails = _tails(nodes)
    ahead = leading_to(nodes, lambda node: expands(node) or contracts(node))
    layers = [n for n in nodes if (op := op_of(n)) is not None and op.sums == "weights"]
    return {n for n in layers if operand(n) in tails or only_read_by(n, ahead)}


def _tails(nodes: Sequence[fx.Node]) -> set[fx.Node]:
    """The values of cheap ops that spread a range, and those that they reach before anything divides or bounds them."""
    tails: set[fx.Node] = set()
    bounded = set(products_with_reciprocals(nodes))
    for node in nodes:
        op = op_of(node)
        if op is None or not has_float_step(op, node) or node in bounded:
            continue
        kept = op.qparams in ("own", "share") or contracts(node)
        if expands(node) or (kept and any(n in tails for n in activations(op, node))):
            tails.add(node)
    return tails


# ---------------------------------------------------------------- how few bits


def keeps_few_bits(observer: Observer, qparams: QParams) -> bool:
    """Whether the values that ``observer`` saw keep under half of their 8 bits with its ``qparams``, on average.

    A value ``x`` in steps of ``scale`` keeps ``log2(2 |x| / scale)`` bits, its sign among them, and none where it
    rounds to zero. A normal distribution keeps 5.
    """
    return type(observer) is HistogramObserver and bits_kept(observer, qparams.per_tensor()[0]) < FEW_BITS


def bits_kept(observer: HistogramObserver, scale: float) -> float:
    """How many bits the values that ``observer`` saw keep in steps of ``scale``, on average."""
    grid = bin_grid(float(observer.min_val), float(observer.max_val), observer.bins)
    values = (torch.arange(grid.used, dtype=torch.float64) + (grid.first + 0.5)) * grid.width
    counts = observer.histogram[: grid.used].double().cpu()
    bits = torch.log2((2 * values.abs() / scale).clamp(min=1.0))
    return float(counts @ bits / counts.sum())


def halves(observer: HistogramObserver, qparams: QParams) -> tuple[QParams, QParams]:
    """Parameters of the high half, over all that was observed, and of the low half, over a step of the high one."""
    scale, zero_point = observer.affine(observer.min_val.reshape(1), observer.max_val.reshape(1))
    high = replace(qparams, scale=float(scale), zero_point=int(zero_point))
    reach = (high.qmax - high.qmin) // 2
    step = torch.tensor(high.scale, dtype=torch.float32) / (2 * reach)
    return high, replace(high, scale=float(step), zero_point=high.qmax - reach)


# ---------------------------------------------------------------- what is done


def read_halves(node: fx.Node, source: fx.Node, rounded: Callable[[fx.Node, str], fx.Node]) -> None:
    """Let the layer ``node`` of a QDQ graph read both halves of ``source``: the node itself becomes their sum.

    Args:
        node: The layer, with weights and bias as they will be.
        source: Its float32 input.
        rounded: Puts a quantize and a dequantize of the ``"high"`` or ``"low"`` half behind a node.
    """
    op, graph = op_at(node), node.graph
    given = arguments(op, node)
    high_half = _half(rounded(source, "high"), node)
    with graph.inserting_before(node):
        rest = _part(graph, node, TABLE["sub"], (source, high_half))
    rest.meta.update(place(source))
    low_half = _half(rounded(rest, "low"), node)
    with graph.inserting_before(node):
        high = _multiplied(graph, node, given | {"x": high_half, "activation": None}, "high")
        low = _multiplied(graph, node, given | {"x": low_half, "activation": None} | _NOTHING_ADDED, "low")
    high.meta[COMPUTES] = low.meta[PART_OF] = node.meta[PART_OF] = node.name
    node.meta.pop("recovery", None)
    activation = given["activation"]
    node.target, node.args = TABLE["add"].fn, (high, low)
    node.kwargs = {} if activation is None else {"activation": activation}
    decide(node, _PART)


_NOTHING_ADDED = {"bias": None, "residual": None}


def layer_name(node: fx.Node) -> str:
    """The name of the layer that a node of a QDQ graph computes or helps to compute, else its own."""
    return str(node.meta.get(COMPUTES) or node.meta.get(PART_OF) or node.name)


def _half(value: fx.Node, node: fx.Node) -> fx.Node:
    """The dequantize of a half, marked, and its quantize with it."""
    value.meta[PART_OF] = operand(value).meta[PART_OF] = node.name
    return value


def _part(graph: fx.Graph, node: fx.Node, op: Op, args: tuple[fx.Node, ...]) -> fx.Node:
    made = graph.call_function(op.fn, args)
    made.meta[PART_OF] = node.name
    decide(made, _PART)
    return made


def _multiplied(graph: fx.Graph, node: fx.Node, given: dict[str, Any], half: str) -> fx.Node:
    """The layer on one half, with float32 results."""
    positional = ("x", "weight", "bias", "residual")
    made = graph.create_node(
        "call_function", node.target, tuple(given[name] for name in positional),
        {k: v for k, v in given.items() if k not in positional}, name=f"{node.name}_{half}",
    )  # fmt: skip
    made.meta.update({k: v for k, v in node.meta.items() if k not in _OF_THE_SUM})
    return made


_OF_THE_SUM: Collection[str] = ("group", "qparams", "own_range", "wanted")
