"""Calls of ops on tensors without data, each kind of call computed once in a process."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import torch
from torch import Tensor

_MOST = 8192
"""Calls that are kept."""

_RESULTS: dict[Hashable, tuple[torch.Size, tuple[int, ...], torch.dtype]] = {}
"""Shape, strides and dtype that a call of an op has come to, by all that they follow from."""


def call_without_data(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """``fn(*args, **kwargs)`` for the function of a row of the op table, with tensors on the meta device.

    torch computes shapes in Python, many calls for one op; layers of one network and graphs of one model ask for the
    same over and over. What follows from the tensors' shapes, strides and dtypes, and from the dtype that numbers have,
    is therefore kept. Errors are not.
    """
    try:
        call: Hashable = (fn, torch.get_default_dtype(), _described(args), _described(tuple(kwargs.items())))
        known = _RESULTS.get(call)
    except (_MoreThanItsShape, TypeError):  # also what has no hash
        return fn(*args, **kwargs)
    if known is not None:
        shape, strides, dtype = known
        return torch.empty_strided(shape, strides, dtype=dtype, device="meta")
    result = fn(*args, **kwargs)
    if type(result) is Tensor and result.is_meta:
        if len(_RESULTS) >= _MOST:
            _RESULTS.clear()
        _RESULTS[call] = result.shape, result.stride(), result.dtype
    return result


class _MoreThanItsShape(Exception):
    """A tensor whose values a result may depend on."""


def _described(value: Any) -> Hashable:
    """What a result without data depends on. A number and its equal of another type are two."""
    if isinstance(value, Tensor):
        if not value.is_meta:
            raise _MoreThanItsShape
        return Tensor, value.shape, value.stride(), value.dtype
    if isinstance(value, (tuple, list)):
        return tuple, *map(_described, value)
    return type(value), value
