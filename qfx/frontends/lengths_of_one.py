"""Batches and sequences of one: an exporter takes lengths for two or more, and most of what it makes holds for one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from qfx.batches import Signature
from qfx.errors import QfxError
from qfx.frontends.defaults import Example, by_name
from qfx.frontends.verify import agree
from qfx.guards import GUARDS, Guard, Path, require, tensors_of

_SEQUENCE = 3
"""Dims of a sequence at most: of images nobody asks for one row of pixels."""


def admit_lengths_of_one(model: nn.Module, captured: fx.GraphModule, example: Example) -> None:
    """Let batches of one, and sequences of one, in where model and graph agree on such a part of the example.

    Args:
        model: The float model; it is not changed.
        captured: What an export made of it; its guards are.
        example: Positional and keyword inputs.
    """
    names = Signature.of_model(model).names
    tensors = {path: x for name, value in by_name(names, example).items() for path, x in tensors_of((name,), value)}
    part = example
    for dim in range(_SEQUENCE):
        found = _with_one(model, captured, example, tensors, dim)
        if found is None:
            continue
        guards, both = found, _narrowed(part, dim, _asked_length(captured, tensors, dim))
        if part is example or _holds(model, captured, names, guards, both):
            captured.meta[GUARDS], part = guards, both


def _with_one(
    model: nn.Module, captured: fx.GraphModule, example: Example, tensors: dict[Path, Tensor], dim: int
) -> tuple[Guard, ...] | None:
    """The guards that let a length of one of ``dim`` in; None where none asks for more, or that does not hold."""
    length = _asked_length(captured, tensors, dim)
    if length is None:
        return None
    found: list[Guard] = []
    for guard in captured.meta[GUARDS]:
        asked = _asked_of(guard)
        found.append(guard if asked is None or asked[2] != dim else replace(guard, wanted=(">=", asked, 1)))
    admitted = tuple(dict.fromkeys(found))
    names = Signature.of_model(model).names
    return admitted if _holds(model, captured, names, admitted, _narrowed(example, dim, length)) else None


def _asked_length(captured: fx.GraphModule, tensors: dict[Path, Tensor], dim: int) -> int | None:
    """The example's length of ``dim`` where it has to be two or more; None where tensors have several such."""
    asked = [_asked_of(guard) for guard in captured.meta[GUARDS]]
    paths = [size[1] for size in asked if size is not None and size[2] == dim]
    if dim and any(tensors[path].dim() > _SEQUENCE for path in paths):
        return None
    lengths = {tensors[path].shape[dim] for path in paths}
    return lengths.pop() if len(lengths) == 1 else None


def _narrowed(example: Example, dim: int, length: int | None) -> Example:
    """``example`` with the first of ``dim`` alone, of the tensors that have ``length`` there."""

    def narrow(x: Tensor) -> Tensor:
        return x.narrow(dim, 0, 1) if x.dim() > dim and x.shape[dim] == length else x

    narrowed: Example = pytree.tree_map_only(Tensor, narrow, example)
    return narrowed


def _holds(
    model: nn.Module, captured: fx.GraphModule, names: tuple[str, ...], guards: tuple[Guard, ...], example: Example
) -> bool:
    try:
        require(guards, by_name(names, example))
    except QfxError:
        return False
    return agree(model, captured, example)


def _asked_of(guard: Guard) -> Any:
    """The size of an input that ``guard`` asks to be two or more: ``("size", path, dim)``; None for any other guard.

    What a ``squeeze`` leaves, ``1 != size``, is another: of one, the result has other dims.
    """
    if guard.kind != "relation":
        return None
    relation, value, bound = (*guard.wanted, None, None)[:3]
    if relation == "!=" and isinstance(value, tuple) and value[0] == "*" and value[1] == bound:
        value, bound = value[2], 1  # k times a size is not k
    if (relation, bound) not in ((">=", 2), (">", 1), ("!=", 1)):
        return None
    return value if isinstance(value, tuple) and value[0] == "size" else None
