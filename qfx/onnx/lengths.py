"""Lengths of every value of a graph in terms of the lengths that are free, and the names that those have in a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import fx

from qfx.guards import GUARDS
from qfx.ir.nodes import operand
from qfx.ops.calls import arguments
from qfx.ops.dims import Dim, Length, Lengths, is_long, unknown
from qfx.ops.extents import channel_dim, origin_of, result_lengths
from qfx.ops.table import Op, op_of

BATCH = "batch"


class GraphLengths:
    """Of every tensor of a QDQ graph whose shapes are known for example inputs.

    Attributes:
        of: The lengths by node: ints, and expressions of what is free.
        names: The names of what is free, by the expression that it is.
    """

    def __init__(self, gm: fx.GraphModule, *, only_batch: bool) -> None:
        self.of: dict[fx.Node, Lengths] = {}
        self.names: dict[Length, str] = {}
        fixed, same = _fixed(gm), {**_batches(gm), **_equal(gm)}
        for node in gm.graph.nodes:
            if node.op == "placeholder" and "shape" in node.meta:
                self.of[node] = tuple(
                    self._input(node, dim, fixed, same, only_batch=only_batch) for dim in range(len(node.meta["shape"]))
                )
            elif "shape" in node.meta:
                self.of[node] = self._computed(node)

    def named(self, node: fx.Node) -> list[int | str | None]:
        """The lengths of a value as the file says them: a number, a name, or None for an expression."""
        return [one if isinstance(one, int) else self.names.get(one) for one in self.of[node]]

    def _input(self, node: fx.Node, dim: int, fixed: Any, same: Any, *, only_batch: bool) -> Length:
        key = same.get((str(node.target), dim), (str(node.target), dim))
        if (node, dim) in fixed or (only_batch and dim > 0):
            return int(node.meta["shape"][dim])
        length = unknown(key)
        if length not in self.names:
            first = dim == 0 and BATCH not in self.names.values()
            self.names[length] = BATCH if first else f"{key[0]}_dim_{key[1]}"
        return length

    def _computed(self, node: fx.Node) -> Lengths:
        shape = node.meta["shape"]
        if node.op == "get_attr":
            return tuple(shape)
        op = op_of(node)
        found = None if op is None else result_lengths(op, node, self.of.get)
        if found is None or len(found) != len(shape):
            return tuple(unknown((node, dim)) for dim in range(len(shape)))
        return tuple(
            unknown((node, dim)) if length is None or is_long(length) else length for dim, length in enumerate(found)
        )


def _batches(gm: fx.GraphModule) -> Mapping[tuple[str, int], tuple[str, int]]:
    """For the batch of each input: that of the first."""
    inputs = [node for node in gm.graph.find_nodes(op="placeholder") if node.meta.get("batch_dim") is not None]
    places = [(str(node.target), node.meta["batch_dim"]) for node in inputs]
    return dict.fromkeys(places, places[0]) if places else {}


def _fixed(gm: fx.GraphModule) -> set[tuple[fx.Node, int]]:
    """Inputs' dims whose length the model fixes: by a guard, or because a layer takes no other."""
    found: set[tuple[fx.Node, int]] = set()
    inputs = {str(node.target): node for node in gm.graph.find_nodes(op="placeholder")}
    for guard in gm.meta.get(GUARDS, ()):
        if guard.kind == "sizes" and len(guard.path) == 1 and guard.path[0] in inputs:
            found |= {(inputs[guard.path[0]], dim) for dim, size in enumerate(guard.wanted) if size is not None}
    for node in gm.graph.nodes:
        op = op_of(node)
        for dim in () if op is None else _channels(op, node):
            origin = origin_of(operand(node), dim)
            if isinstance(origin[0], fx.Node) and origin[0].op == "placeholder":
                found.add(origin)
    return found


def _channels(op: Op, node: fx.Node) -> list[int]:
    """Dims of a call's first operand that its weights or its attributes fix."""
    given = arguments(op, node)
    x, weight = given.get("x"), given.get("weight")
    if not isinstance(x, fx.Node) or "shape" not in x.meta:
        return []
    rank = len(x.meta["shape"])
    if "normalized_shape" in given:
        return list(range(rank - len(given["normalized_shape"]), rank))
    if not isinstance(weight, fx.Node):
        return []
    of_weight = len(weight.meta["shape"])
    return [{1: 1, 2: rank - 1}.get(of_weight) or channel_dim(node)]


def _equal(gm: fx.GraphModule) -> Mapping[tuple[str, int], tuple[str, int]]:
    """For dims of inputs that are as long as another one: which."""
    found: dict[tuple[str, int], tuple[str, int]] = {}
    for guard in gm.meta.get(GUARDS, ()):
        if guard.kind == "relation" and guard.wanted[0] == "==":
            sizes = [side for side in guard.wanted[1:] if isinstance(side, tuple) and side[0] == "size"]
            if len(sizes) == 2 and all(len(path) == 1 for _, path, _ in sizes):
                one, other = ((path[0], dim) for _, path, dim in sizes)
                found[one] = found.get(other, other)
    return found


def is_free(length: Any) -> bool:
    """Whether a length is not a number."""
    return isinstance(length, Dim)
