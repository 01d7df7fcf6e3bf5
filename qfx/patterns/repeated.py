"""One node for what several compute of integers: masks and places, which each layer of a transformer makes anew."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from torch import fx

from qfx.ops.dtypes import known_dtype
from qfx.ops.extents import is_dim
from qfx.ops.table import op_of


def merge_repeated(graph_module: fx.GraphModule) -> fx.GraphModule:
    """Lets every op that computes what an earlier one has give way to it, where nothing comes from float data."""
    first: dict[Hashable, fx.Node] = {}
    apart: set[fx.Node] = set()
    for node in list(graph_module.graph.nodes):
        op = op_of(node)
        if op is None or not op.gives_tensor or not all(_is_apart(n, apart) for n in node.all_input_nodes):
            continue
        apart.add(node)
        kept = first.setdefault((node.target, id(node.meta.get("qconfig")), _key(node.args), _key(node.kwargs)), node)
        if kept is not node:
            node.replace_all_uses_with(kept)
            graph_module.graph.erase_node(node)
            apart.discard(node)
    graph_module.recompile()
    return graph_module


def _is_apart(value: fx.Node, apart: set[fx.Node]) -> bool:
    """Whether a value is a constant, a length, or computed from integers and truth values."""
    dtype = known_dtype(value)
    return value in apart or value.op == "get_attr" or is_dim(value) or bool(dtype and not dtype.is_floating_point)


def _key(value: Any) -> Hashable:
    """What is equal for arguments that mean the same: 1, 1.0 and True do not."""
    if isinstance(value, (list, tuple)):
        return tuple(map(_key, value))
    if isinstance(value, dict):
        return tuple(sorted((name, _key(item)) for name, item in value.items()))
    return type(value), repr(value) if isinstance(value, float) else value
