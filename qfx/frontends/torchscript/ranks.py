"""Ranks of the tensors of a graph under translation, where its code alone determines them."""

from __future__ import annotations

import re
from typing import Any

from torch import fx

_CONV = re.compile(r"(_convolution|conv(_transpose)?\dd)$")
_SAME = frozenset(
    [
        "relu",
        "relu_",
        "relu6",
        "sigmoid",
        "tanh",
        "silu",
        "gelu",
        "hardswish",
        "hardsigmoid",
        "leaky_relu",
        "elu",
        "hardtanh",
        "clamp",
        "batch_norm",
        "layer_norm",
        "group_norm",
        "instance_norm",
        "softmax",
        "log_softmax",
        "dropout",
        "max_pool1d",
        "max_pool2d",
        "max_pool3d",
        "avg_pool1d",
        "avg_pool2d",
        "avg_pool3d",
        "adaptive_avg_pool1d",
        "adaptive_avg_pool2d",
        "adaptive_avg_pool3d",
        "contiguous",
        "clone",
        "detach",
        "to",
        "linear",
        "pad",
        "constant_pad_nd",
        "interpolate",
        "upsample_nearest2d",
        "upsample_bilinear2d",
        "transpose",
        "permute",
        "slice",
        "exp",
        "sqrt",
        "neg",
        "abs",
        "feature_dropout",
        "channel_shuffle",
        "pixel_shuffle",
    ]
)
_BINARY = frozenset(["add", "add_", "sub", "mul", "mul_", "div"])
_SHAPED = frozenset(["view", "reshape", "expand"])


def name_of(target: Any) -> str:
    """The name of a function or an aten overload, without the overload's."""
    return str(getattr(target, "_opname", None) or getattr(target, "__name__", target))


def rank_of(value: Any) -> int | None:
    """The rank of a tensor, None when it is unknown."""
    if not isinstance(value, fx.Node):
        return 0 if isinstance(value, (int, float)) else None
    if "rank" not in value.meta:
        value.meta["rank"] = _find(value) if value.op == "call_function" else None
    rank: int | None = value.meta["rank"]
    return rank


def _find(node: fx.Node) -> int | None:
    name, args = name_of(node.target), [*node.args, *node.kwargs.values()]
    if _CONV.match(name):
        return rank_of(args[1])
    if name in _SAME:
        return rank_of(args[0])
    if name in _BINARY:
        ranks = [rank_of(args[0]), rank_of(args[1])]
        return None if None in ranks else max(rank for rank in ranks if rank is not None)
    if name in _SHAPED:
        return len(args[1]) if isinstance(args[1], (tuple, list)) else None
    if name in ("cat", "stack") and isinstance(args[0], (tuple, list)):
        first = rank_of(args[0][0])
        return None if first is None else first + (name == "stack")
    return _changed(name, args)


def _changed(name: str, args: list[Any]) -> int | None:
    rank = rank_of(args[0]) if args else None
    if name == "flatten":
        start, end = (args[1] if len(args) > 1 else 0), (args[2] if len(args) > 2 else -1)
        return start + 1 if end == -1 and isinstance(start, int) and start >= 0 else None
    if rank is None:
        return None
    if name == "mean" and len(args) > 1 and isinstance(args[1], (tuple, list)):
        return rank if len(args) > 2 and args[2] is True else rank - len(args[1])
    return {"unsqueeze": rank + 1, "select": rank - 1}.get(name)
