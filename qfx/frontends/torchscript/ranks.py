"""Ranks of the tensors of a graph under translation, where its code alone tells them: those of the ops it spells."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from qfx.ops import extents
from qfx.ops.spellings import alias_of
from qfx.ops.table import TABLE
from qfx.ops.terms import Folded, NotNormal, Pieces, Term

if TYPE_CHECKING:
    from qfx.frontends.torchscript.writer import Writer


def rank_of(t: Writer, value: Any) -> int | None:
    """The rank of a tensor, None when it is unknown."""
    if not isinstance(value, fx.Node):
        return 0 if isinstance(value, (int, float)) else None
    if "shape" in value.meta:
        return len(value.meta["shape"])
    if "rank" not in value.meta:
        value.meta["rank"] = _find(t, value) if value.op == "call_function" else None
    rank: int | None = value.meta["rank"]
    return rank


def _find(t: Writer, node: fx.Node) -> int | None:
    normal = _Normal(t)
    try:
        return extents.rank_of(normal.write(normal.value(node)))
    except NotNormal:
        return None


class _Normal:
    """A graph of one call, in ops of the table."""

    def __init__(self, t: Writer) -> None:
        self.t, self.graph = t, fx.Graph()
        self._operands: dict[fx.Node, fx.Node] = {}

    def value(self, node: fx.Node) -> Any:
        """What a call is in terms of rows.

        Raises:
            NotNormal: No row expresses it.
        """
        alias, source = alias_of(node.target), node.args[0] if node.args else None
        if node.target is operator.getitem and isinstance(source, fx.Node) and source.op == "call_function":
            pieces = None if self.t.is_number(source) else self.value(source)
            if isinstance(pieces, Pieces):
                return pieces[node.args[1]]
        if alias is None:
            raise NotNormal("it has no row")
        args: Any = fx.node.map_aggregate(node.args, self.operand)
        kwargs: Any = fx.node.map_aggregate(dict(node.kwargs), self.operand)
        return alias.apply(None, args, kwargs)

    def operand(self, value: Any) -> Any:
        """What stands for an operand: a constant, a tensor of the same rank, or a length of which nothing is known."""
        if isinstance(value, fx.Node) and value not in self._operands:
            self._operands[value] = self._made(value)
        return self._operands[value] if isinstance(value, fx.Node) else value

    def _made(self, value: fx.Node) -> fx.Node:
        if self.t.is_number(value):
            return self.graph.call_function(TABLE["size"].fn, (self.graph.placeholder("any"),), {"dim": 0})
        made = self.graph.create_node("get_attr" if value.op == "get_attr" else "placeholder", value.name)
        made.meta["dtype"] = torch.float32  # of which conversions keep the rank as well
        if "shape" in value.meta:
            made.meta["shape"] = value.meta["shape"]
        return self._ranked(made, rank_of(self.t, value))

    def _ranked(self, made: fx.Node, rank: int | None) -> fx.Node:
        if rank is not None:
            made.meta["rank"] = rank
        return made

    def write(self, value: Any) -> Any:
        """The node of a term."""
        if isinstance(value, Folded):
            constant = next((operand for operand in value.operands if isinstance(operand, fx.Node)), None)
            return self._ranked(self.graph.placeholder("folded"), extents.rank_of(constant))
        if isinstance(value, (tuple, list)):
            return type(value)(self.write(item) for item in value)
        if not isinstance(value, Term):
            return value
        target = TABLE[value.op].fn if isinstance(value.op, str) else value.op
        kwargs = {name: self.write(item) for name, item in value.kwargs.items()}
        return self.graph.call_function(target, tuple(map(self.write, value.args)), kwargs)
