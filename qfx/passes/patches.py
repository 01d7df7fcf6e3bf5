"""Convolutions of transformers under a dynamic qconfig: linear layers over patches, and computed as such."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, fx

from qfx.ops.calls import activations, arguments
from qfx.ops.extents import rank_of
from qfx.ops.table import is_op, op_at, op_of
from qfx.ops.terms import Folded, Shape, Term, term
from qfx.passes.dynamic import takes_linear
from qfx.passes.wide import PART_OF
from qfx.patterns.pattern import Match
from qfx.patterns.replacement import Replacer
from qfx.quantization.qconfig import QConfig

RULE = "multiply_patches"
_ENOUGH = 32
"""How many features and outputs a layer has at least whose patches are copied: with fewer, copies take longer."""


@dataclass(frozen=True)
class _Patches:
    """What a convolution over patches reads.

    Attributes:
        x: Its input, ``[..., C, *spatial]``.
        lead: How many dims are before the channels.
        channels: How many there are.
        window: The lengths of a patch.
        stride: How far it is from one patch to the next.
        dilation: How far apart the elements of a patch are.
        padding: How many zeros there are on both sides of each dim.
    """

    x: fx.Node
    lead: int
    channels: int
    window: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]

    @property
    def are_points(self) -> bool:
        """Whether the patches are all points, one each."""
        return set(self.window) == {1} and self.share_nothing

    @property
    def share_nothing(self) -> bool:
        """Whether each element is in one patch, but those of a rest at the end: a patch is where it lies."""
        dilated = any(d > 1 and length > 1 for d, length in zip(self.dilation, self.window, strict=True))
        return self.stride == self.window and not dilated and not any(map(any, self.padding))

    @property
    def channels_last(self) -> bool:
        """Whether a row has the channels of a point side by side: as images lie in memory that a layer made."""
        return self.are_points or not self.share_nothing or not _lies_as_written(self.x)

    @property
    def to_last(self) -> tuple[int, ...]:
        """The permutation that makes channels the last dim."""
        behind = self.lead + 1
        return (*range(self.lead), *range(behind, behind + len(self.window)), self.lead)

    @property
    def to_first(self) -> tuple[int, ...]:
        """The inverse of :attr:`to_last`."""
        return (*range(self.lead), self.lead + len(self.window), *range(self.lead, self.lead + len(self.window)))


def multiply_patches(gm: fx.GraphModule) -> fx.GraphModule:
    """Makes a linear layer of each convolution with channels enough, where its qconfig is a dynamic one.

    Its windows are rows of a linear layer. It is done in transformers, which are the graphs with an attention, and not
    between two convolutions that stay with torch, which computes them one after the other.
    """
    if not any(is_op(node, "attention") for node in gm.graph.nodes):
        return gm
    replacer, able = Replacer(gm), {n for n in gm.graph.nodes if is_op(n, "conv") and _patches(n) is not None}
    chosen = [node for node in gm.graph.nodes if node in able and not _is_between_others(node, able)]
    for node in chosen:
        _replace(replacer, node)
    gm.graph.lint()
    gm.recompile()
    return gm


def _replace(replacer: Replacer, node: fx.Node) -> None:
    graph, name, patches = node.graph, node.name, _patches(node)
    assert patches is not None, f"{name} is no convolution over patches"
    before = set(graph.nodes)
    new = replacer.replace(Match(node, {}, frozenset({node})), _multiplied(node, patches), RULE)
    _describe(new, name, patches, set(graph.nodes) - before)


def _is_between_others(node: fx.Node, able: set[fx.Node]) -> bool:
    """Whether a convolution reads and is read by such as are not ``able`` to become linear layers.

    Directly, through those that are, or through ops that leave images what they are.
    """
    return _meets_other(_read(node), _read, able) and _meets_other(node.users, _readers, able)


def _meets_other(nodes: Iterable[fx.Node], further: Callable[[fx.Node], Iterable[fx.Node]], able: set[fx.Node]) -> bool:
    walk, seen = list(nodes), set[fx.Node]()
    while walk:
        node = walk.pop()
        op = op_of(node)
        if is_op(node, "conv") and node not in able:
            return True
        if op is not None and op.layout != "rows" and node not in seen:
            seen.add(node)
            walk += further(node)
    return False


def _read(node: fx.Node) -> Iterable[fx.Node]:
    return activations(op_at(node), node)


def _readers(node: fx.Node) -> Iterable[fx.Node]:
    return node.users


def _patches(node: fx.Node) -> _Patches | None:
    """What a convolution reads that can be a linear layer, and is to be one."""
    given, qconfig, rank = arguments(op_at(node), node), node.meta.get("qconfig"), rank_of(node)
    weight = given["weight"]
    if qconfig is None or rank is None or not (isinstance(weight, fx.Node) and weight.op == "get_attr"):
        return None
    outputs, channels, *window = weight.meta["shape"]
    lead, padding = rank - len(window) - 1, tuple(map(tuple, given["padding"]))
    found = _Patches(
        given["x"], lead, channels, tuple(window), tuple(given["stride"]), tuple(given["dilation"]), padding
    )
    features = channels * math.prod(window)
    if given["groups"] != 1 or not (found.share_nothing or _pays(qconfig, outputs, features)):
        return None
    return found if takes_linear(qconfig, features) else None


def _pays(qconfig: QConfig, outputs: int, features: int) -> bool:
    """Whether a product of integers makes up for patches that are copied apart."""
    return not qconfig.weight_only and min(outputs, features) >= _ENOUGH


def _multiplied(node: fx.Node, patches: _Patches) -> Term:
    """The linear layer between moves: rows of patches, and images of rows."""
    given = arguments(op_at(node), node)
    weight = Folded("weight", partial(patch_weight, channels_last=patches.channels_last), (given["weight"],))
    residual = None if given["residual"] is None else term("permute", given["residual"], dims=patches.to_last)
    rows = _points(patches) if patches.are_points else _rows(patches) if patches.share_nothing else _windows(patches)
    layer = Term("linear", (rows, weight, given["bias"], residual), {"activation": given["activation"]})
    return term("permute", layer, dims=patches.to_first)


def patch_weight(weight: Tensor, *, channels_last: bool) -> Tensor:
    """``[O, C, *window]`` as ``[O, features]``, for patches with their channels last or first."""
    return (weight.movedim(1, -1) if channels_last else weight).flatten(1).contiguous()


def _points(patches: _Patches) -> Term:
    return term("permute", patches.x, dims=patches.to_last)


def _windows(patches: _Patches) -> Term:
    """``[..., *counts, features]``: a patch a row, with the channels of a point side by side."""
    value: Any = patches.x
    if any(map(any, patches.padding)):
        amounts = tuple(amount for sides in reversed(patches.padding) for amount in sides)
        value = term("pad", value, pad=amounts, mode="constant", value=None)
    dims = tuple(range(patches.lead, patches.lead + len(patches.window)))
    of_each = {"size": patches.window, "stride": patches.stride, "dilation": patches.dilation}
    windows = term("windows", term("permute", value, dims=patches.to_last), dims=dims, **of_each)
    behind = dims[-1] + 1
    moved = term("permute", windows, dims=(*range(behind), *range(behind + 1, behind + 1 + len(dims)), behind))
    return term("flatten", moved, start_dim=behind, end_dim=-1)


def _rows(patches: _Patches) -> Term:
    """``[..., *counts, features]``: a patch a row, its elements in the order in which they lie in memory."""
    lead, window, shape = patches.lead, patches.window, Shape(patches.x)
    value: Any = patches.x
    for dim, length in enumerate(window, lead + 1):
        value = _whole(value, dim, shape[dim], length)
    split = [n for dim, by in enumerate(window, lead + 1) for n in (_count(shape[dim], by), by)]
    if patches.channels_last:
        value, sizes, first = (
            term("permute", value, dims=patches.to_last),
            [*split[:-1], split[-1] * patches.channels],
            0,
        )
    else:
        sizes, first = [patches.channels, *split], 1
    value = term("reshape", value, [*(shape[dim] for dim in range(lead)), *sizes])
    counts = range(lead + first, lead + first + len(split), 2)
    inner = [dim for dim in range(lead, lead + len(sizes)) if dim not in counts]
    moved = term("permute", value, dims=(*range(lead), *counts, *inner))
    return term("flatten", moved, start_dim=-len(inner), end_dim=-1)


def _count(length: Any, by: int) -> Any:
    """How many patches there are along a dim."""
    return length // by if isinstance(length, int) else term(operator.floordiv, length, by)


def _whole(value: Any, dim: int, length: Any, by: int) -> Any:
    """``value`` up to the last whole patch of ``dim``."""
    if by == 1 or (isinstance(length, int) and length % by == 0):
        return value
    count = _count(length, by)
    end = count * by if isinstance(count, int) else term(operator.mul, count, by)
    return term("slice", value, dim=dim, start=None, end=end, step=1)


def _lies_as_written(x: fx.Node) -> bool:
    """Whether a value lies in memory in the order of its dims, as inputs do, and what is computed of one of them."""
    op = op_of(x)
    while op is not None and op.follows_layout and op.layout is None:
        values = [value for value in activations(op, x) if value.op != "get_attr"]
        if len(values) != 1:
            return False
        x = values[0]
        op = op_of(x)
    return op is None


def _describe(new: fx.Node, name: str, patches: _Patches, made: set[fx.Node]) -> None:
    """Give the layer the convolution's name, and say of the moves around it that they are parts of it."""
    layer: Any = new.args[0]
    new.name, layer.name = f"{name}_image", name
    size = " x ".join(map(str, patches.window))
    layer.meta["recovery"] = (f"a convolution over patches of {size}, computed as a linear layer",)
    for node in made - {layer}:
        if node.op == "call_function":
            node.meta[PART_OF] = name
