"""How a value that was computed from a view goes back into the tensor that the view shows: the inverse of each view."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx

from qfx.frontends.mutation import function_name, is_number

Emit = Callable[..., fx.Node]
"""Writes a call of a function on arguments."""

WHOLE = slice(None)


class NoInverse(Exception):
    """A view that can't be written through: what it is."""


def written_through(emit: Emit, view: Any, split: Any, whole: Any, value: Any) -> Any:
    """``whole`` with ``value`` in the place of what ``view``, a view of it, shows.

    Args:
        emit: Writes a call.
        view: A node, or its op, target, args and kwargs.
        split: The call of which ``view`` is an item, if it is one of a tuple.
        whole, value: Nodes.

    Raises:
        NoInverse: There is no such function of torch, or it takes what is not known.
    """
    name, rest = _name(view), (*view.args[1:], *view.kwargs.values())
    if split is not None:
        return _into_piece(emit, split, view.args[1], whole, value)
    if name in ("getitem", "__getitem__"):
        steps, tensors = basic_steps(view.args[1])
        if tensors:
            raise NoInverse("an item by a tensor of indices")
        return through_steps(emit, steps, whole, lambda _: value)
    if name in _RESHAPED:
        return emit(torch.reshape, value, emit(getattr, whole, "shape"))
    if name in _SAME:
        return value
    inverse = _INVERSES.get(name)
    if inverse is None:
        raise NoInverse(f"a view by {name}")
    return inverse(emit, whole, value, *rest)


_RESHAPED = {"view", "view_as", "unflatten", "squeeze", "_unsafe_view"}
_SAME = {"alias", "detach", "contiguous", "lift_fresh", "requires_grad_", "float", "cpu", "dropout"}


def _permuted(emit: Emit, whole: Any, value: Any, *dims: Any) -> Any:
    order = tuple(dims[0]) if len(dims) == 1 and isinstance(dims[0], (tuple, list)) else dims
    if not all(isinstance(dim, int) for dim in order):
        raise NoInverse("a view by permute with computed dims")
    return emit(torch.permute, value, tuple(sorted(range(len(order)), key=lambda i: order[i] % len(order))))


def _sliced(emit: Emit, whole: Any, value: Any, dim: Any = 0, start: Any = None, end: Any = None, step: Any = 1) -> Any:
    return emit(torch.slice_scatter, whole, value, dim, start, end, step)


def _narrowed(emit: Emit, whole: Any, value: Any, dim: Any, start: Any, length: Any) -> Any:
    return emit(torch.slice_scatter, whole, value, dim, start, _sum(emit, start, length))


def _sum(emit: Emit, a: Any, b: Any) -> Any:
    return emit(operator.add, a, b) if isinstance(a, fx.Node) or isinstance(b, fx.Node) else a + b


_ATTRIBUTES = {"T": "t", "mT": "mT", "H": "t", "mH": "mT", "data": "data"}
"""Properties and the view that each is."""

_INVERSES: dict[str, Callable[..., Any]] = {
    "transpose": lambda emit, whole, value, a, b: emit(torch.transpose, value, a, b),
    "swapaxes": lambda emit, whole, value, a, b: emit(torch.transpose, value, a, b),
    "swapdims": lambda emit, whole, value, a, b: emit(torch.transpose, value, a, b),
    "t": lambda emit, whole, value: emit(torch.t, value),
    "numpy_T": lambda emit, whole, value: emit(torch.t, value),
    "mT": lambda emit, whole, value: emit(torch.transpose, value, -2, -1),
    "movedim": lambda emit, whole, value, a, b: emit(torch.movedim, value, b, a),
    "moveaxis": lambda emit, whole, value, a, b: emit(torch.movedim, value, b, a),
    "permute": _permuted,
    "unsqueeze": lambda emit, whole, value, dim: emit(torch.squeeze, value, dim),
    "select": lambda emit, whole, value, dim, index: emit(torch.select_scatter, whole, value, dim, index),
    "slice": _sliced,
    "narrow": _narrowed,
    "diagonal": lambda emit, whole, value, *rest: emit(torch.diagonal_scatter, whole, value, *rest),
    "data": lambda emit, whole, value: value,
    "getattr": lambda emit, whole, value, name: _INVERSES[_ATTRIBUTES[name]](emit, whole, value),
}
"""By name of a view with the tensor first: the writer of calls, the tensor, the value, the view's other arguments."""


# Items: of tensors, and of the tuples that split and its like return.


def is_piece(node: fx.Node) -> bool:
    """Whether a node is an item of the tuple that split or its like returns."""
    source = node.args[0] if node.args else None
    named = _name(node) in ("getitem", "__getitem__") and isinstance(source, fx.Node)
    return named and _name(source) in _SPLITS


_SPLITS = {"chunk", "split", "split_with_sizes", "unbind", "tensor_split"}
_SPLITS |= {"unsafe_chunk", "unsafe_split", "unsafe_split_with_sizes"}


def _name(node: Any) -> str:
    return str(node.target) if node.op == "call_method" else function_name(node.target)


def _into_piece(emit: Emit, split: Any, index: Any, whole: Any, value: Any) -> Any:
    name, rest = _name(split), (*split.args[1:], *split.kwargs.values())
    if name == "unbind":
        return emit(torch.select_scatter, whole, value, rest[0] if rest else 0, index)
    parts, dim = rest[0], rest[1] if len(rest) > 1 else 0
    if isinstance(parts, (tuple, list)) and name != "tensor_split":
        starts = [0]
        for length in parts:
            starts.append(_sum(emit, starts[-1], length))
        return emit(torch.slice_scatter, whole, value, dim, starts[index], starts[index + 1])
    if index < 0 or name == "tensor_split":
        raise NoInverse(f"a piece by {name} of unknown place")
    size = parts
    if "chunk" in name:
        length = emit(getattr, whole, "shape")
        size = emit(operator.floordiv, emit(operator.add, emit(operator.getitem, length, dim), parts - 1), parts)
    scaled = size * index if isinstance(size, int) else emit(operator.mul, size, index)
    return emit(torch.slice_scatter, whole, value, dim, scaled, _sum(emit, scaled, size))


Step = tuple[Callable[..., Any], tuple[Any, ...], Callable[..., Any]]
"""A view of one dim: its function, its arguments after the tensor, and the function that writes through it."""


def basic_steps(index: Any) -> tuple[list[Step], list[Any]]:
    """``x[index]`` as views of one dim each, and what is left: indices by tensors, None for dims before them.

    Raises:
        NoInverse: The places of the dims are not known.
    """
    items = list(index) if isinstance(index, tuple) else [index]
    at = next((i for i, item in enumerate(items) if item is Ellipsis), len(items))
    left, right = items[:at], items[at + 1 :]
    if any(_kind(item) == "tensor" for item in right):
        raise NoInverse("an index by a tensor behind an ellipsis")
    steps: list[Step] = []
    tensors: list[Any] = []
    dim = 0
    for item in left:
        if _kind(item) == "tensor":
            tensors += [None] * (dim - len(tensors)) + [item]
            dim += 1
        elif tensors and item != WHOLE:
            raise NoInverse("an index by a tensor with others behind it")
        elif not tensors:
            steps += _step(item, dim)
            dim += _kind(item) != "number"
    kept = 0
    for item in reversed(right):
        steps += _step(item, -1 - kept)
        kept += _kind(item) != "number"
    return steps, tensors


def through_steps(emit: Emit, steps: Sequence[Step], whole: Any, change: Callable[[Any], Any]) -> Any:
    """``whole`` with ``change`` of what ``steps`` show of it in its place."""
    shown = [whole]
    for function, args, _ in steps:
        shown.append(emit(function, shown[-1], *args))
    value = change(shown.pop())
    for (_, args, scatter), before in zip(reversed(steps), reversed(shown), strict=True):
        value = emit(torch.squeeze, value, *args) if scatter is torch.squeeze else emit(scatter, before, value, *args)
    return value


def _step(item: Any, dim: int) -> list[Step]:
    kind = _kind(item)
    if kind == "number":
        return [(torch.select, (dim, item), torch.select_scatter)]
    if kind == "new":
        return [(torch.unsqueeze, (dim,), torch.squeeze)]
    if item == WHOLE:
        return []
    step = 1 if item.step is None else item.step
    return [(_slice, (dim, item.start, item.stop, step), torch.slice_scatter)]


_slice = torch.ops.aten.slice.Tensor


def _kind(item: Any) -> str:
    if item is None:
        return "new"
    if isinstance(item, slice):
        return "slice"
    if isinstance(item, bool):
        raise NoInverse("an index by a truth value")
    return "number" if isinstance(item, int) or (isinstance(item, fx.Node) and is_number(item)) else "tensor"
