"""What a Normal graph says about its shapes without inputs: ranks, constant channel counts, dim values."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import fx

from qfx.ops.table import TABLE, op_of

DIM_FUNCTIONS = (operator.add, operator.sub, operator.mul, operator.floordiv, operator.neg)
"""The arithmetic of dim values."""

_KEEPS_SHAPE = {"channel_affine", "softmax", "log_softmax", "layer_norm", "group_norm", "instance_norm", "pad"}
_KEEPS_SHAPE |= {"channel_shuffle", "causal_softmax"}
_KEEPS_RANK = _KEEPS_SHAPE | {
    "max_pool",
    "avg_pool",
    "adaptive_avg_pool",
    "adaptive_max_pool",
    "interpolate",
    "permute",
}
_KEEPS_RANK |= {"pixel_shuffle", "pixel_unshuffle", "transpose", "slice", "linear"}
_KEEPS_CHANNELS = _KEEPS_SHAPE | {"max_pool", "avg_pool", "adaptive_avg_pool", "adaptive_max_pool", "interpolate"}
_KEEPS_DTYPE = {"add", "sub", "mul", "relu", "clamp", "abs", "neg", "square", "sign", "floor", "ceil", "round"}
_KEEPS_DTYPE |= {"add_scalar", "rsub_scalar", "mul_scalar", "pow_scalar", "matmul", "threshold", "sum"}
_Memo: TypeAlias = dict[Any, "int | None"]
"""What is known in one query: ranks by node, lengths by node and dim. Without it, diamonds cost exponential time."""

_BROADCASTS = {"add", "sub", "mul", "div", "matmul"}


def is_dim(value: object) -> bool:
    """Whether ``value`` is a node that computes a dim value (a Python int when the graph runs)."""
    if not isinstance(value, fx.Node) or value.op != "call_function" or "opaque_reason" in value.meta:
        return False
    return value.target is TABLE["size"].fn or value.target in DIM_FUNCTIONS


def rank_of(value: Any) -> int | None:
    """The rank of a tensor node, or None when the graph alone does not determine it."""
    return _rank(value, {})


def assumed_rank(value: fx.Node) -> int | None:
    """The rank of the operand of a convolution, a pool or a norm where nothing but the op itself says it: a batch."""
    op = op_of(value)
    if op is None or op.name not in _WINDOWED - {"interpolate"}:
        return None
    if op.name == "conv":
        return rank_of(value.args[1])
    window = value.kwargs.get("kernel") or value.kwargs.get("output_size")
    return len(window) + 2 if isinstance(window, (tuple, list)) else None


def record_rank(value: Any, rank: int) -> None:
    """Keeps what is known of the rank of ``value``, and so of what it has its rank from."""
    while isinstance(value, fx.Node) and rank_of(value) is None:
        value.meta["rank"] = rank
        op = op_of(value)
        if op is None or not (op.pointwise is not None or op.name in _KEEPS_RANK):
            return
        value = value.args[0]


def extent_of(value: Any, dim: int) -> int | None:
    """The length of ``dim`` of a tensor node when constants alone determine it, or None."""
    return _length(value, dim, {})


def origin_of(value: Any, dim: int) -> tuple[Any, int]:
    """The earliest value, with its dim, whose length is that of ``dim`` of ``value`` because ops in between keep it."""
    while (before := _before(value, dim)) is not None:
        value, dim = before
    rank = rank_of(value)
    return value, dim if dim >= 0 or rank is None else dim + rank


def _before(value: Any, dim: int) -> tuple[Any, int] | None:
    """The operand, with its dim, whose length is that of ``dim`` of ``value``; None where no rule says so."""
    op, rank = op_of(value) if isinstance(value, fx.Node) else None, rank_of(value)
    if op is None or rank is None:
        return None
    x, kwargs, dim = value.args[0], value.kwargs, dim % rank
    if op.pointwise is not None or op.name in _KEEPS_SHAPE - {"pad"}:
        return x, dim
    if op.name in _WINDOWED:
        return (x, dim) if dim < rank - _window(op.name, value, rank) else None
    if op.name == "linear":
        return (x, dim) if dim < rank - 1 else None
    if op.name == "transpose":
        first, second = kwargs["dim0"] % rank, kwargs["dim1"] % rank
        return x, {first: second, second: first}.get(dim, dim)
    if op.name == "permute":
        return x, kwargs["dims"][dim]
    if op.name == "slice":
        return (x, dim) if dim != kwargs["dim"] % rank else None
    if op.name == "flatten":
        return (x, dim) if dim < kwargs["start_dim"] and kwargs["start_dim"] >= 0 else None
    if op.name == "unsqueeze":
        new = kwargs["dim"] % rank
        return (x, dim - (dim > new)) if dim != new else None
    if op.name == "select":
        return x, dim + (dim >= kwargs["dim"] % (rank + 1))
    return None


_WINDOWED = _KEEPS_CHANNELS - _KEEPS_SHAPE | {"conv"}


def _window(name: str, value: fx.Node, rank: int) -> int:
    """How many of the last dims of a windowed op's result are not its operand's."""
    if name == "conv":
        return (rank_of(value.args[1]) or rank + 1) - 1
    given = (value.kwargs.get(key) for key in ("kernel", "output_size", "size", "scale_factor"))
    window = next(filter(None, given), None)
    return len(window) if isinstance(window, (tuple, list)) else rank


def _rank(value: Any, memo: _Memo) -> int | None:
    if not isinstance(value, fx.Node):
        return None
    if value not in memo:
        memo[value] = _find_rank(value, memo)
    return memo[value]


def _find_rank(value: fx.Node, memo: _Memo) -> int | None:
    if "shape" in value.meta:
        return len(value.meta["shape"])
    if "rank" in value.meta:
        return int(value.meta["rank"])
    op = op_of(value)
    if op is None:
        return None
    x = value.args[0]
    if op.name == "conv":
        return _rank(value.args[1], memo) if _rank(x, memo) is None else _rank(x, memo)
    if op.pointwise is not None or op.name in _KEEPS_RANK:
        return _window_rank(value) if _rank(x, memo) is None else _rank(x, memo)
    if op.name in _BROADCASTS:
        ranks = [_rank(x, memo), _rank(value.args[1], memo)]
        return None if None in ranks else max(rank for rank in ranks if rank is not None)
    return _reshaped_rank(op.name, value, x, memo)


def is_floating(value: Any) -> bool:
    """Whether a tensor is certainly of a floating dtype."""
    return _is_floating(value, set())


def _is_floating(value: Any, seen: set[fx.Node]) -> bool:
    if not isinstance(value, fx.Node) or value in seen:
        return False
    seen.add(value)
    if "dtype" in value.meta:
        return bool(value.meta["dtype"].is_floating_point)
    op = op_of(value)
    if op is None:
        return False
    if op.name in _KEEPS_DTYPE or op.qparams == "share":
        operands = value.args[0] if isinstance(value.args[0], (tuple, list)) else value.args[: len(op.tensors)]
        return any(_is_floating(operand, seen) for operand in operands)
    return op.name != "size"


def is_boolean(value: Any) -> bool:
    """Whether a tensor certainly holds truth values."""
    if not isinstance(value, fx.Node):
        return False
    if "dtype" in value.meta:
        return bool(value.meta["dtype"] is torch.bool)
    op = op_of(value)
    return op is not None and op.qparams == "share" and is_boolean(value.args[0])


def _window_rank(value: fx.Node) -> int | None:
    window = value.kwargs.get("kernel") or value.kwargs.get("output_size") or value.kwargs.get("dims")
    if op_of(value) is TABLE["permute"] or not isinstance(window, (tuple, list)):
        return len(window) if isinstance(window, (tuple, list)) else None
    return len(window) + 2


def _reshaped_rank(name: str, value: fx.Node, x: Any, memo: _Memo) -> int | None:
    if name in ("reshape", "expand"):
        return len(value.args[1]) if isinstance(value.args[1], (tuple, list)) else None
    if name == "cat":
        return next((rank for item in x if (rank := _rank(item, memo)) is not None), None)
    if name == "stack":
        return next((rank + 1 for item in x if (rank := _rank(item, memo)) is not None), None)
    kwargs: Any = value.kwargs
    rank = _rank(x, memo)
    if name == "flatten" and kwargs["start_dim"] >= 0 and kwargs["end_dim"] == -1:
        return int(kwargs["start_dim"]) + 1
    if rank is None:
        return None
    if name in ("mean", "sum", "amax"):
        dims = kwargs["dims"] or range(rank)
        return rank if kwargs["keepdim"] else rank - len(dims)
    if name == "flatten":
        return rank - (kwargs["end_dim"] % rank - kwargs["start_dim"] % rank)
    return {"select": rank - 1, "unsqueeze": rank + 1}.get(name)


def _length(value: Any, dim: int, memo: _Memo) -> int | None:
    if not isinstance(value, fx.Node):
        return None
    if (value, dim) not in memo:
        memo[value, dim] = _find_length(value, dim, memo)
    return memo[value, dim]


def _find_length(value: fx.Node, dim: int, memo: _Memo) -> int | None:
    if value.op == "get_attr" and "shape" in value.meta:
        return int(value.meta["shape"][dim])
    rank = _rank(value, memo)
    if dim < 0 and rank is None:
        return _last_length(value, memo) if dim == -1 else None
    dim = dim if dim >= 0 or rank is None else dim + rank
    found = _extent(value, dim, rank, memo)
    return _length_for_readers(value, memo) if found is None and rank is not None and dim == rank - 1 else found


def _last_length(value: fx.Node, memo: _Memo) -> int | None:
    """The length of the last dim of a tensor of unknown rank."""
    op = op_of(value)
    if op is TABLE["linear"]:
        return _length(value.args[1], 0, memo)
    if op is TABLE["layer_norm"]:
        return int(value.kwargs["normalized_shape"][-1])  # type: ignore[index,arg-type]
    return _length_for_readers(value, memo)


def _length_for_readers(value: fx.Node, memo: _Memo) -> int | None:
    """The length of the last dim that the linear layers and layer norms that read ``value`` take: no other works."""
    for reader in value.users:
        op = op_of(reader)
        if op is TABLE["linear"] and reader.args[0] is value:
            return _length(reader.args[1], 1, memo)
        if op is TABLE["layer_norm"]:
            return _last_length(reader, memo)
    return None


def _extent(value: fx.Node, dim: int, rank: int | None, memo: _Memo) -> int | None:
    op = op_of(value)
    if op is None:
        return None
    x: Any = value.args[0]
    if op.name == "conv":
        return _length(value.args[1], 0, memo) if dim == _channel_dim(value, rank) else None
    if op.name == "linear":
        return _length(value.args[1], 0, memo) if rank is not None and dim == rank - 1 else None
    if op.name == "channel_affine" and dim == 1:
        return _length(value.args[1], 0, memo)
    if op.name == "layer_norm" and rank is not None and dim == rank - 1:
        return _last_length(value, memo)
    if op.pointwise is not None or (op.name in _KEEPS_SHAPE - {"pad"}):
        return _length(x, dim, memo)
    if op.name in _KEEPS_CHANNELS and 0 < dim < _kept(op.name, value, rank):
        return _length(x, dim, memo)
    if op.name in _BROADCASTS - {"matmul"}:
        return _broadcast_extent(value, dim, memo)
    if op.name == "cat":
        return _cat_extent(x, value.kwargs["dim"], dim, memo)
    return _moved_extent(op.name, value, x, dim, memo)


def _kept(name: str, value: fx.Node, rank: int | None) -> int:
    """How many leading dims a windowed op or a padding keeps; batch and channels where the rank is not known."""
    if rank is None or name == "interpolate":
        return 2
    if name == "pad":
        return rank - len(value.kwargs["pad"]) // 2  # type: ignore[arg-type]
    return rank - _window(name, value, rank)


def channel_dim(conv: fx.Node) -> int:
    """The dim of a convolution's result that its weight's first dim is: 1, or 0 where there is no batch."""
    return _channel_dim(conv, rank_of(conv))


def _channel_dim(conv: fx.Node, rank: int | None) -> int:
    of_weight = rank_of(conv.args[1])
    return 1 if rank is None or of_weight is None else rank - of_weight + 1


def _broadcast_extent(value: fx.Node, dim: int, memo: _Memo) -> int | None:
    operands = value.args[:2]
    if _rank(operands[0], memo) is None or _rank(operands[0], memo) != _rank(operands[1], memo):
        return None
    extents = [_length(operand, dim, memo) for operand in operands]
    known = [extent for extent in extents if extent is not None]
    return max(known) if len(known) == 2 or any(extent > 1 for extent in known) else None


def _cat_extent(tensors: Sequence[Any], axis: Any, dim: int, memo: _Memo) -> int | None:
    extents = [_length(tensor, dim, memo) for tensor in tensors]
    if axis != dim:
        return next((extent for extent in extents if extent is not None), None) if axis >= 0 else None
    return None if None in extents else sum(extent for extent in extents if extent is not None)


def _moved_extent(name: str, value: fx.Node, x: Any, dim: int, memo: _Memo) -> int | None:
    kwargs: Any = value.kwargs
    if name == "slice" and kwargs["dim"] >= 0:
        length = _length(x, dim, memo)
        if dim != kwargs["dim"]:
            return length
        bounds = (kwargs["start"], kwargs["end"])
        if length is None or any(isinstance(bound, fx.Node) for bound in bounds):
            return None
        return len(range(length)[slice(*bounds, kwargs["step"])])
    if name in ("reshape", "expand"):
        entry = value.args[1][dim]  # type: ignore[index]
        if entry == -1 and name == "reshape":
            return _rest(x, value.args[1], memo)  # type: ignore[arg-type]
        return _dim_value(entry, memo) if entry != -1 else None
    if name == "stack" and dim == kwargs["dim"]:
        return len(x)
    if name == "select" and kwargs["dim"] >= 0:
        return _length(x, dim + (dim >= kwargs["dim"]), memo)
    if name == "unsqueeze" and kwargs["dim"] >= 0:
        return 1 if dim == kwargs["dim"] else _length(x, dim - (dim > kwargs["dim"]), memo)
    if name == "transpose" and min(kwargs["dim0"], kwargs["dim1"]) >= 0:
        swap = {kwargs["dim0"]: kwargs["dim1"], kwargs["dim1"]: kwargs["dim0"]}
        return _length(x, swap.get(dim, dim), memo)
    if name == "permute":
        return _length(x, kwargs["dims"][dim], memo)
    return None


def _dim_value(entry: Any, memo: _Memo) -> int | None:
    """What a dim value is when constants alone determine it."""
    if isinstance(entry, int):
        return entry
    if not is_dim(entry):
        return None
    if entry.target is TABLE["size"].fn:
        return _length(entry.args[0], entry.kwargs["dim"], memo)
    operands = [_dim_value(operand, memo) for operand in entry.args]
    return None if None in operands else int(entry.target(*operands))


def _rest(x: Any, shape: Sequence[Any], memo: _Memo) -> int | None:
    """What the -1 of a reshape of ``x`` is when all that constants don't determine of ``x`` is in ``shape`` again."""
    rank = _rank(x, memo)
    if rank is None:
        return None
    have = [_length(x, dim, memo) or origin_of(x, dim) for dim in range(rank)]
    need = [_dim_value(entry, memo) or _size_of(entry) for entry in shape if entry != -1]
    for length in need:
        if not isinstance(length, int):
            if length not in have:
                return None
            have.remove(length)
    known = math.prod(length for length in need if isinstance(length, int))
    whole = math.prod(length for length in have if isinstance(length, int))
    return whole // known if all(isinstance(length, int) for length in have) else None


def _size_of(entry: Any) -> tuple[Any, Any] | None:
    """The tensor, with its dim, whose length ``entry`` is."""
    is_size = isinstance(entry, fx.Node) and entry.target is TABLE["size"].fn
    return (entry.args[0], entry.kwargs["dim"]) if is_size else None
