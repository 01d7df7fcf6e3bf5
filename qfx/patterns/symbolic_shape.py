"""Shapes without inputs: each dim an int or an expression over the graph's inputs, so that equal means equal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from torch import fx

from qfx.ops.calls import arguments
from qfx.ops.extents import rank_of
from qfx.ops.table import TABLE, op_of

Extent: TypeAlias = int | str
Extents: TypeAlias = tuple[Extent, ...]
_Given: TypeAlias = dict[str, Any]


def infer_extents(graph_module: fx.GraphModule) -> fx.GraphModule:
    """Sets ``meta["extents"]`` on every tensor whose rank is known: per dim an int, or an expression as a string.

    A dim that no rule derives is named after its node (``"relu_1.2"``); two dims with one expression are equal.
    """
    ranks = input_ranks(graph_module.graph)
    for node in graph_module.graph.nodes:
        found = _infer(node, ranks)
        if found is not None:
            node.meta["extents"] = found
    return graph_module


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


def input_ranks(graph: fx.Graph) -> dict[fx.Node, int]:
    """Ranks of inputs that a convolution or a pool reads, directly or through functions of one value."""
    ranks: dict[fx.Node, int] = {}
    for node in reversed(graph.nodes):
        row = op_of(node)
        operand = node.args[0] if node.args else None
        if row is None or not isinstance(operand, fx.Node):
            continue
        rank = rank_of(node) if row.name in ("conv", "max_pool", "avg_pool", "adaptive_avg_pool") else None
        if rank is None and (row.pointwise is not None or row.name in ("pad", "channel_affine")):
            rank = ranks.get(node)
        if rank is not None:
            ranks.setdefault(operand, rank)
    return ranks


def _infer(node: fx.Node, ranks: dict[fx.Node, int]) -> Extents | None:
    if node.op == "get_attr":
        return tuple(node.meta["shape"]) if "shape" in node.meta else None
    row = op_of(node)
    if row is None:
        shape = node.meta.get("shape")
        rank = len(shape) if shape is not None else ranks.get(node)
        return None if rank is None else _named(node, rank)
    if row.qparams == "none":
        return None
    rule = _same if row.pointwise is not None else _RULES.get(row.name)
    found = rule(arguments(row, node)) if rule is not None else None
    if found is None:
        rank = rank_of(node)
        return None if rank is None else _named(node, rank)
    return tuple(f"{node.name}.{dim}" if extent is None else extent for dim, extent in enumerate(found))


def _named(node: fx.Node, rank: int) -> Extents:
    return tuple(f"{node.name}.{dim}" for dim in range(rank))


def _extents(value: Any) -> Extents | None:
    return value.meta.get("extents") if isinstance(value, fx.Node) else None


def plus(extent: Extent, amount: int) -> Extent:
    """``extent + amount``."""
    if isinstance(extent, int):
        return extent + amount
    return extent if amount == 0 else f"({extent}{amount:+d})"


def window(extent: Extent, total: int, stride: int, *, ceil: bool = False) -> Extent:
    """``(extent + total) // stride + 1``; ``total`` is the padding less the window's reach."""
    if isinstance(extent, int) and not ceil:
        return (extent + total) // stride + 1
    if stride == 1:
        return plus(extent, total + 1)
    return f"({plus(extent, total)}{'//^' if ceil else '//'}{stride}+1)"


def _same(given: _Given) -> Extents | None:
    return _extents(given["x"])


def _conv(given: _Given) -> Extents | None:
    x, weight = _extents(given["x"]), _extents(given["weight"])
    if x is None or weight is None or len(x) != len(weight):
        return None
    totals = [
        sum(padding) - dilation * (kernel - 1) - 1
        for padding, dilation, kernel in zip(given["padding"], given["dilation"], map(int, weight[2:]), strict=True)
    ]
    return (x[0], weight[0], *map(window, x[2:], totals, given["stride"]))


def _linear(given: _Given) -> Extents | None:
    x, weight = _extents(given["x"]), _extents(given["weight"])
    return None if x is None or weight is None else (*x[:-1], weight[0])


def _pool(given: _Given) -> Extents | None:
    x, spatial = _extents(given["x"]), len(given["kernel"])
    if x is None:
        return None
    dilation: Sequence[int] = given.get("dilation", (1,) * spatial)
    reach = [2 * p - d * (k - 1) - 1 for p, d, k in zip(given["padding"], dilation, given["kernel"], strict=True)]
    sizes = [
        window(extent, total, stride, ceil=given["ceil_mode"])
        for extent, total, stride in zip(x[-spatial:], reach, given["stride"], strict=True)
    ]
    return (*x[:-spatial], *sizes)


def _adaptive(given: _Given) -> Extents | None:
    x, sizes = _extents(given["x"]), given["output_size"]
    if x is None:
        return None
    kept = x[-len(sizes) :]
    return (*x[: -len(sizes)], *(old if new is None else new for old, new in zip(kept, sizes, strict=True)))


def _broadcast(given: _Given) -> tuple[Extent | None, ...] | None:
    x, y = _extents(given["x"]), _extents(given["y"])
    if x is None or y is None:
        return None
    rank = max(len(x), len(y))
    x, y = (1,) * (rank - len(x)) + x, (1,) * (rank - len(y)) + y
    return tuple(_broadcast_dim(a, b) for a, b in zip(x, y, strict=True))


def _broadcast_dim(a: Extent, b: Extent) -> Extent | None:
    if b in (a, 1):
        return a
    if a == 1 or (isinstance(b, int) and isinstance(a, str)):
        return b
    return a if isinstance(a, int) else None


def _pad(given: _Given) -> Extents | None:
    x = _extents(given["x"])
    if x is None:
        return None
    flat = given["pad"]
    amounts = [flat[i] + flat[i + 1] for i in range(0, len(flat), 2)]
    padded = [*amounts, *[0] * (len(x) - len(amounts))]
    return tuple(plus(extent, amount) for extent, amount in zip(x, reversed(padded), strict=True))


def _mean(given: _Given) -> Extents | None:
    x = _extents(given["x"])
    if x is None:
        return None
    dims = range(len(x)) if given["dims"] is None else [dim % len(x) for dim in given["dims"]]
    if given["keepdim"]:
        return tuple(1 if dim in dims else extent for dim, extent in enumerate(x))
    return tuple(extent for dim, extent in enumerate(x) if dim not in dims)


def _permute(given: _Given) -> Extents | None:
    x = _extents(given["x"])
    return None if x is None else tuple(x[dim] for dim in given["dims"])


def _transpose(given: _Given) -> Extents | None:
    x = _extents(given["x"])
    if x is None:
        return None
    order = list(x)
    a, b = given["dim0"], given["dim1"]
    order[a], order[b] = order[b], order[a]
    return tuple(order)


def _cat(given: _Given) -> tuple[Extent | None, ...] | None:
    operands = [_extents(operand) for operand in given["tensors"]]
    first = operands[0]
    if first is None or any(operand is None or len(operand) != len(first) for operand in operands):
        return None
    axis = given["dim"] % len(first)
    lengths = [operand[axis] for operand in operands if operand is not None]
    total = sum(int(length) for length in lengths) if all(isinstance(length, int) for length in lengths) else None
    return (*first[:axis], total, *first[axis + 1 :])


def _reshape(given: _Given) -> tuple[Extent | None, ...] | None:
    return tuple(entry_extent(entry) for entry in given["shape"])


def entry_extent(entry: Any) -> Extent | None:
    """What an entry of a reshape's shape is, or None for -1 and for arithmetic."""
    if isinstance(entry, int):
        return None if entry < 0 else entry
    if op_of(entry) is TABLE["size"]:
        x = _extents(entry.args[0])
        return None if x is None else x[entry.kwargs["dim"]]
    return None


_Rule: TypeAlias = Callable[[_Given], Sequence[Extent | None] | None]
_RULES: dict[str, _Rule] = {
    "conv": _conv,
    "linear": _linear,
    **dict.fromkeys(("add", "sub", "mul", "div"), _broadcast),
    **dict.fromkeys(("max_pool", "avg_pool"), _pool),
    **dict.fromkeys(("adaptive_avg_pool", "adaptive_max_pool"), _adaptive),
    **dict.fromkeys(("softmax", "log_softmax", "layer_norm", "group_norm", "instance_norm"), _same),
    **dict.fromkeys(("channel_affine", "channel_shuffle", "causal_softmax"), _same),
    "pad": _pad,
    **dict.fromkeys(("mean", "sum", "amax"), _mean),
    "permute": _permute,
    "transpose": _transpose,
    "cat": _cat,
    "reshape": _reshape,
}

__all__ = ["Extent", "Extents", "entry_extent", "infer_extents", "input_ranks", "plus", "same_shape", "window"]
