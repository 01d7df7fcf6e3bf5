"""What depends on the values' order: comparisons, sorting, extremes, equality."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from qfx.errors import UnsupportedError
from qfx.ir.types import QParams
from qfx.tensor.qtensor import QTensor
from qfx.tensor.views import Args, Kwargs, bare, require_per_tensor, wrapped


def values_of(tree: Any) -> Any:
    """Every QTensor in ``tree`` as its float32 values."""
    return pytree.tree_map_only(QTensor, lambda q: q.dequantize().detach(), tree)


def on_values(func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """A function whose result is no tensor of values: torch's own, of the dequantized operands."""
    return func(*values_of(args), **values_of(kwargs))


def with_indices(func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """``(values, indices)``: the indices that the dequantized tensor gives, and the integers found there."""
    x: QTensor = args[0]
    require_per_tensor(x, f"{func.__name__}()")
    _require_no_out(func, kwargs)
    if func.__name__ == "msort":
        return with_indices(torch.sort, args, {"dim": 0})[0]
    found = func(*values_of(args), **kwargs)
    return type(found)((_gathered(x, found.indices, _dim(func, args[1:], kwargs)), found.indices))


def extreme(func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """``max`` and ``min``: of all values, or along a dim with indices."""
    x = args[0]
    _require_no_out(func, kwargs)
    if any(isinstance(v, Tensor) for v in (*args[1:], *kwargs.values())):
        raise UnsupportedError(
            f"{func.__name__}() of two tensors is not defined on a QTensor.",
            remedy="Call it on x.dequantize(), and quantize the result.",
        )
    require_per_tensor(x, f"{func.__name__}()")
    if len(args) == 1 and not kwargs:
        return wrapped(bare(func, args, kwargs), x)
    found = func(*values_of(args), **kwargs)
    return type(found)((_gathered(x, found.indices, _dim(func, args[1:], kwargs)), found.indices))


_POSITION_OF_DIM = {"sort": 0, "max": 0, "min": 0, "topk": 1, "kthvalue": 1}


def _dim(func: Callable[..., Any], rest: Args, kwargs: Kwargs) -> int:
    place = _POSITION_OF_DIM[func.__name__]
    given: int = kwargs.get("dim", rest[place] if len(rest) > place else -1)
    return given


def _gathered(x: QTensor, indices: Tensor, dim: int) -> Any:
    codes = x.codes
    if codes.dim() == 0:
        return wrapped(codes.clone(), x)
    reduced = indices.dim() < codes.dim()
    found = codes.gather(dim, indices.unsqueeze(dim) if reduced else indices)
    return wrapped(found.squeeze(dim) if reduced else found, x)


def _require_no_out(func: Callable[..., Any], kwargs: Kwargs) -> None:
    if kwargs.get("out") is not None:
        raise UnsupportedError(f"{func.__name__}(out=...) is not defined on a QTensor.", remedy="Leave out= away.")


def equal(func: Callable[..., Any], args: Args, kwargs: Kwargs) -> bool:
    """Whether both are QTensors of one scheme, dtype, shape, parameters and integers."""
    a, b = (*args, *kwargs.values())
    if not (isinstance(a, QTensor) and isinstance(b, QTensor)):
        return False
    return same_qparams(a.qparams, b.qparams) and a.shape == b.shape and torch.equal(a.codes, b.codes)


def same_qparams(a: QParams, b: QParams) -> bool:
    """Whether integers mean the same under both: scales count as float32."""
    if a.dtype is not b.dtype or a.axis != b.axis or a.zero_point != b.zero_point:
        return False
    return a.scale == b.scale or torch.equal(torch.tensor(a.scale).float(), torch.tensor(b.scale).float())
