"""Queries, views and moves: torch's own function on the integers, with the same quantization parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from qfx.errors import QuantizationError, UnsupportedError
from qfx.ir.types import QDType, QParams
from qfx.tensor.qtensor import QTensor, wrap

Args = tuple[Any, ...]
Kwargs = Mapping[str, Any]


def bare(func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """``func`` on the integers; a QTensor whose integers it returns as they are, as functions in place do, itself."""
    held = [a for a in (*args, *kwargs.values()) if isinstance(a, QTensor)]
    result = func(*map(_held, args), **{k: _held(v) for k, v in kwargs.items()})
    return next((x for x in held if result is x.codes), result)


def _held(value: Any) -> Any:
    return value.codes if isinstance(value, QTensor) else value


def wrapped(result: Any, like: QTensor, qparams: QParams | None = None) -> Any:
    """Integer results as QTensors with ``like``'s parameters; one that is ``like`` itself as it is."""
    if isinstance(result, QTensor):
        return result
    if isinstance(result, Tensor):
        return wrap(result, qparams or like.qparams, like.severed)
    return type(result)(wrapped(r, like, qparams) for r in result)


def query(func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """What torch knows of the integers' memory."""
    return bare(func, args, kwargs)


def shared(func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """Memory shared between processes: of the plain tensor, whose dtype torch's own code asks for."""
    x: QTensor = args[0]
    result = func(x.codes)
    return x if isinstance(result, Tensor) else result


def method(func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """``torch.dequantize(q)`` and its like: the method of that name."""
    return getattr(args[0], func.__name__)()


def require_per_tensor(x: QTensor, what: str) -> None:
    """Raise for a per-channel QTensor.

    Raises:
        QuantizationError: With ``what`` as its subject.
    """
    if x.qparams.axis is not None:
        raise QuantizationError(
            f"{what} of a QTensor quantized per channel.",
            why="Its scales belong to the channels of one dim, which this may split, move or drop.",
            remedy="Call it on int_repr() or dequantize().",
        )


def moved(func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """A view or move of a per-tensor QTensor."""
    x = args[0]
    if not func.__name__.endswith("_as"):
        _require_plain((*args[1:], *kwargs.values()))
    if not isinstance(x, QTensor):  # a plain tensor that borrows a QTensor's shape, as in x.expand_as(q)
        return bare(func, args, kwargs)
    require_per_tensor(x, f"{func.__name__}()")
    return wrapped(bare(func, args, kwargs), x)


def _require_plain(values: Args) -> None:
    """Raise for a QTensor where an index or a size belongs."""
    if any(isinstance(leaf, QTensor) for leaf in pytree.tree_leaves(values)):
        raise UnsupportedError("A QTensor is used as an index.", remedy="Index with its int_repr().long().")


def view(func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """``view``; where the strides allow none, as after a convolution, whose memory is channels-last, a copy."""
    x, *shape = args
    if any(isinstance(s, (torch.dtype, QDType)) for s in (*shape, *kwargs.values())):
        raise UnsupportedError("view() of a QTensor as another dtype.", remedy="View int_repr() as that dtype.")
    if not isinstance(x, QTensor):
        return bare(func, args, kwargs)
    require_per_tensor(x, "view()")
    try:
        return wrapped(bare(func, args, kwargs), x)
    except RuntimeError:
        like = shape and isinstance(shape[0], Tensor)
        return wrapped(bare(Tensor.reshape_as if like else Tensor.reshape, args, kwargs), x)


def get_item(func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """Indexing of any kind."""
    x = args[0]
    _require_plain(args[1:])
    require_per_tensor(x, "Indexing")
    return wrapped(bare(func, args, kwargs), x)


def same_channels(func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """Calls that keep every dim where it is."""
    return wrapped(bare(func, args, kwargs), args[0])


def permuted(func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """A permutation of dims; the channel axis moves along."""
    x: QTensor = args[0]
    result = bare(func, args, kwargs)
    if x.qparams.axis is None:
        return wrapped(result, x)
    # Where the axis went: the same permutation of a tensor whose only dim longer than 1 is that axis.
    probe = torch.empty([2 if d == x.qparams.axis else 1 for d in range(result.dim())], device="meta")
    axis = list(bare(func, (probe, *args[1:]), kwargs).shape).index(2)
    return wrapped(result, x, replace(x.qparams, axis=axis))
