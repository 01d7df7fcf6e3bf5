"""Remove ops that return their operand, and merge moves of elements that follow each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from qfx.ops.calls import arguments, attributes
from qfx.ops.extents import rank_of
from qfx.ops.table import is_op, never, op_at
from qfx.ops.terms import Term
from qfx.patterns.pattern import Match, op, rows, value
from qfx.patterns.rewriter import Rule
from qfx.patterns.symbolic_shape import Extents, entry_extent


def _drop(match: Match) -> fx.Node | None:
    """The operand, when the op does nothing to it."""
    row, x = op_at(match.root), match["x"]
    return x if isinstance(x, fx.Node) and row.does_nothing(**attributes(row, match.root)) else None


def _drop_view(match: Match) -> fx.Node | None:
    """The operand, when its shape is what the op gives it."""
    x = match["x"]
    return x if isinstance(x, fx.Node) and _keeps_shape(match.root, x) else None


def _keeps_shape(node: fx.Node, x: fx.Node) -> bool:
    """Whether a reshape, flatten or expand gives its operand's shape for all inputs, not only the examples."""
    extents: Extents | None = x.meta.get("extents")
    row = op_at(node)
    if extents is None:
        return False
    given = arguments(row, node)
    if row.name == "flatten":
        first, last = (given[name] % max(len(extents), 1) for name in ("start_dim", "end_dim"))
        return len(extents) > 0 and bool(first == last)
    entries: Sequence[Any] = given["shape"]
    left = [entry == -1 for entry in entries]
    if len(entries) != len(extents) or (row.name == "reshape" and sum(left) > 1):
        return False
    return all(is_left or entry_extent(e) == x for is_left, e, x in zip(left, entries, extents, strict=True))


def permutation(node: fx.Node) -> tuple[int, ...] | None:
    """The dims of a permute or transpose node counted from the front, or None when the rank is unknown."""
    dims: Any = node.kwargs.get("dims")
    rank = len(dims) if dims is not None else rank_of(node)
    if rank is None:
        return None
    if dims is not None:
        return tuple(dim % rank for dim in dims)
    order = list(range(rank))
    a, b = node.kwargs["dim0"], node.kwargs["dim1"]
    order[a], order[b] = order[b], order[a]  # type: ignore[index]
    return tuple(order)


def _merge_permutes(match: Match) -> Term | fx.Node | None:
    inner, outer = match["inner"], match.root
    first, then = permutation(inner), permutation(outer)
    if first is None or then is None or len(first) != len(then):
        return _undo_transpose(inner, outer)
    order = tuple(first[dim] for dim in then)
    x = inner.args[0]
    if order == tuple(range(len(order))):
        return x if isinstance(x, fx.Node) else None
    return Term("permute", (x,), {"dims": order})


def _undo_transpose(inner: fx.Node, outer: fx.Node) -> fx.Node | None:
    swaps = [{node.kwargs.get("dim0"), node.kwargs.get("dim1")} for node in (inner, outer)]
    x = inner.args[0]
    return x if swaps[0] == swaps[1] != {None} and isinstance(x, fx.Node) else None


def _drop_permute(match: Match) -> fx.Node | None:
    order = permutation(match.root)
    x = match["x"]
    return x if order is not None and order == tuple(range(len(order))) and isinstance(x, fx.Node) else None


def _merge_reshapes(match: Match) -> Term:
    return Term("reshape", (match["x"], match.root.args[1]))


def _to_flatten(match: Match) -> Term | None:
    """``x.reshape(x.shape[0], -1)``."""
    x, entries = match["x"], match.root.args[1]
    if not isinstance(entries, (tuple, list)) or len(entries) != 2 or entries[1] != -1 or not is_op(entries[0], "size"):
        return None
    size: Any = entries[0]
    own = size.args[0] is x and size.kwargs["dim"] == 0
    if not own and entry_extent(size) != getattr(x, "meta", {}).get("extents", ("",))[0]:
        return None
    return Term("flatten", (x,), {"start_dim": 1, "end_dim": -1})


def _undo_unsqueeze(match: Match) -> fx.Node | None:
    x = match["x"]
    if match["inner"].kwargs["dim"] != match.root.kwargs["dim"] or not isinstance(x, fx.Node):
        return None
    return x


class _Chain(nn.Module):
    """Steps, each ``(method, arguments)``."""

    def __init__(self, *steps: tuple[Any, ...]) -> None:
        super().__init__()
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(x)
        for method, *given in self.steps:
            x = getattr(x, method)(*given)
        return torch.tanh(x)


class _KeepDim(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(x)
        return x.reshape(x.shape[self.dim], -1)


def _cube() -> tuple[Tensor]:
    return (torch.randn(2, 3, 4),)


RULES = (
    Rule(
        "drop_neutral_op",
        op(rows(lambda row: row.does_nothing is not never), value("x")),
        _drop,
        benefit=16,
        sample=lambda: (_Chain(("mul", 1.0), ("add", 0.0)), _cube()),
        near_miss=lambda: (_Chain(("mul", 1.5), ("add", 0.5)), _cube()),
        semantics="bitwise",
    ),
    Rule(
        "drop_view_of_the_same_shape",
        op("reshape flatten expand", value("x")),
        _drop_view,
        benefit=16,
        sample=lambda: (_Chain(("permute", 0, 2, 1), ("expand", -1, -1, -1), ("flatten", 1, 1)), _cube()),
        near_miss=lambda: (_Chain(("permute", 0, 2, 1), ("expand", -1, 4, -1), ("flatten", 1, 2)), _cube()),
        semantics="bitwise",
    ),
    Rule(
        "merge_permutes",
        op("permute transpose", op("permute transpose", value("x"), name="inner")),
        _merge_permutes,
        benefit=9,
        sample=lambda: (_Chain(("permute", 0, 2, 1), ("permute", 1, 0, 2)), _cube()),
        near_miss=lambda: (_Chain(("transpose", 1, 2), ("reshape", 2, 2, 6), ("transpose", 0, 1)), _cube()),
        semantics="bitwise",
    ),
    Rule(
        "drop_identity_permute",
        op("permute", value("x")),
        _drop_permute,
        benefit=16,
        sample=lambda: (_Chain(("permute", 0, 1, 2)), _cube()),
        near_miss=lambda: (_Chain(("permute", 0, 2, 1)), _cube()),
        semantics="bitwise",
    ),
    Rule(
        "merge_reshapes",
        op("reshape", op("reshape flatten", value("x"))),
        _merge_reshapes,
        benefit=9,
        sample=lambda: (_Chain(("reshape", 6, 4), ("reshape", 3, 8)), _cube()),
        near_miss=lambda: (_Chain(("reshape", 6, 4), ("transpose", 0, 1), ("reshape", 3, 8)), _cube()),
        semantics="bitwise",
    ),
    Rule(
        "turn_reshape_into_flatten",
        op("reshape", value("x")),
        _to_flatten,
        benefit=5,
        sample=lambda: (_KeepDim(0), _cube()),
        near_miss=lambda: (_KeepDim(1), _cube()),
        semantics="bitwise",
    ),
    Rule(
        "undo_unsqueeze",
        op("squeeze", op("unsqueeze", value("x"), name="inner")),
        _undo_unsqueeze,
        benefit=9,
        sample=lambda: (_Chain(("unsqueeze", 1), ("squeeze", 1)), _cube()),
        near_miss=lambda: (_Chain(("unsqueeze", 1), ("squeeze", 2)), _cube()),
        semantics="bitwise",
    ),
)
