"""Shapes without inputs: each dim an int or an expression over the graph's inputs, so that equal means equal."""

from __future__ import annotations

from typing import Any, TypeAlias

from torch import fx

from qfx.ops.dims import Dim, Length, Lengths, is_long, unknown
from qfx.ops.extents import assumed_rank, facts_kept, operand_rank, rank_of, result_lengths
from qfx.ops.table import TABLE, op_of

Extent: TypeAlias = int | str
Extents: TypeAlias = tuple[Extent, ...]


@facts_kept()
def infer_extents(graph_module: fx.GraphModule) -> fx.GraphModule:
    """Sets ``meta["extents"]`` on every tensor whose rank is known: per dim an int, or an expression as a string.

    A dim that no shape function derives, or only at length, is named after its node (``"relu_1.2"``); two dims with one
    expression are equal.
    """
    lengths: dict[fx.Node, Lengths] = {}
    named: dict[Dim, Dim] = {}
    others = [n for n in graph_module.graph.nodes if n.op != "output" and op_of(n) is None]
    told = all("shape" in n.meta for n in others)
    ranks = {} if told else input_ranks(graph_module.graph)
    for node in graph_module.graph.nodes:
        found = _infer(node, ranks, lengths)
        if found is not None:
            lengths[node] = tuple(_short(length, node, dim, named) for dim, length in enumerate(found))
            node.meta["extents"] = tuple(n if isinstance(n, int) else str(n) for n in lengths[node])
    return graph_module


def _short(length: Length, node: fx.Node, dim: int, named: dict[Dim, Dim]) -> Length:
    """``length``, or the name of an expression that is long: the same one of equal ones."""
    if not isinstance(length, Dim) or not is_long(length):
        return length
    return named.setdefault(length, unknown((node.name, dim)))


def same_shape(first: fx.Node, second: Any) -> bool:
    """Whether two values have one shape: by their expressions, or as seen in a run.

    A length of 1 that was seen may be another with other inputs, where it is not an expression of one kind in both.
    """
    if not isinstance(second, fx.Node):
        return False
    known, other, seen = first.meta.get("extents"), second.meta.get("extents"), first.meta.get("shape")
    if known is None or other is None:
        return False
    if known == other:
        return True
    if seen is None or seen != second.meta.get("shape"):
        return False
    return all(length != 1 or one == two for length, one, two in zip(seen, known, other, strict=True))


@facts_kept()
def input_ranks(graph: fx.Graph) -> dict[fx.Node, int]:
    """Ranks of inputs that a convolution or a pool reads, directly or through ops that keep them."""
    ranks: dict[fx.Node, int] = {}
    for node in reversed(graph.nodes):
        operand = node.args[0] if node.args else None
        if op_of(node) is None or not isinstance(operand, fx.Node):
            continue
        rank = assumed_rank(node)
        if rank is None and node in ranks:
            rank = operand_rank(node, ranks[node])
        if rank is not None:
            ranks.setdefault(operand, rank)
    return ranks


def _infer(node: fx.Node, ranks: dict[fx.Node, int], lengths: dict[fx.Node, Lengths]) -> Lengths | None:
    if node.op == "get_attr":
        return tuple(node.meta["shape"]) if "shape" in node.meta else None
    row = op_of(node)
    if row is None:
        shape = node.meta.get("shape")
        rank = len(shape) if shape is not None else ranks.get(node)
        return None if rank is None else _named(node, rank)
    if not row.gives_tensor:
        return None
    found = result_lengths(row, node, lengths.get)
    if found is None:
        rank = rank_of(node)
        return None if rank is None else _named(node, rank)
    return tuple(unknown((node.name, dim)) if length is None else length for dim, length in enumerate(found))


def _named(node: fx.Node, rank: int) -> Lengths:
    return tuple(unknown((node.name, dim)) for dim in range(rank))


def entry_extent(entry: Any) -> Extent | None:
    """What an entry of a reshape's shape is, or None for -1 and for arithmetic."""
    if isinstance(entry, int):
        return None if entry < 0 else entry
    if op_of(entry) is TABLE["size"]:
        extents: Extents | None = entry.args[0].meta.get("extents")
        return None if extents is None else extents[entry.kwargs["dim"]]
    return None


__all__ = ["Extent", "Extents", "entry_extent", "infer_extents", "input_ranks", "same_shape"]
