"""What must be true of the arguments of a call in a file, beside what the function checks itself."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch

from qfx.file.functions import FILLED, SIZED
from qfx.file.malformed import MalformedError

MOST_ELEMENTS = 1 << 30
"""Elements of a tensor that numbers in a file may ask for: more than any model's constants, less than any memory."""
_LARGEST = 1 << 31
_ENDS = frozenset({2**63 - 1, -(2**63)})
"""Numbers that stand for the end of a dim."""

_TYPES = {
    "ScalarType": torch.dtype,
    "Layout": torch.layout,
    "MemoryFormat": torch.memory_format,
    "Device": (torch.device, str),
}
"""What PyTorch's operators would take as numbers."""


def require_call(target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raise for a call with arguments that no frontend makes.

    Args:
        target: A function, or a method's name.
        args: Its arguments, nodes among them; a method's begins with its tensor.
        kwargs: Its keyword arguments.

    Raises:
        MalformedError: A result is written into an operand, memory is asked for on another device or in another layout,
            or a number is none that sizes have.
    """
    if kwargs.get("out") is not None:
        raise MalformedError("A call writes its result into another tensor.")
    if isinstance(target, torch._ops.OpOverload):
        _require_types(target, args, kwargs)
    for value in _leaves((args, kwargs)):
        if isinstance(value, str) and _device(value) not in (None, "cpu"):
            raise MalformedError(f"A call asks for memory on {value!r}.")
        if type(value) is int and abs(value) > _LARGEST and value not in _ENDS:
            raise MalformedError(f"A call has the number {value}, which is no size or index.")
    name = _name(target)
    if name in SIZED:
        asked = args[:1] if name in FILLED and args and not isinstance(args[0], torch.fx.Node) else args
        given = (*(asked[:2] if name in FILLED else asked), *(() if name in FILLED else kwargs.values()))
        _require_elements(given)


def _require_elements(given: tuple[Any, ...]) -> None:
    elements = math.prod(max(abs(value), 1) for value in _leaves(given) if type(value) is int)
    if elements > MOST_ELEMENTS:
        raise MalformedError(f"A call asks for a tensor of {elements} elements.")


def _require_types(target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """PyTorch's operators take a number for a dtype or a layout, and believe it."""
    for index, argument in enumerate(target._schema.arguments):
        value = args[index] if index < len(args) else kwargs.get(argument.name)
        kind = str(argument.real_type).removeprefix("Optional[").rstrip("]")
        wanted: Any = _TYPES.get(kind)
        if value is not None and wanted and not isinstance(value, wanted):
            raise MalformedError(f"{target} has {value!r} as its {argument.name}.")
        if argument.name == "pin_memory" and value:
            raise MalformedError(f"{target} asks for pinned memory.")


def _name(target: Any) -> str:
    if isinstance(target, torch._ops.OpOverload):
        name: str = target._schema.name.removeprefix("aten::")
        return name.removeprefix("fft_")
    return target if isinstance(target, str) else getattr(target, "__name__", "").removeprefix("fft_")


def _device(text: str) -> str | None:
    """The type of the device that ``text`` names, None where it names none."""
    try:
        return torch.device(text).type
    except RuntimeError:
        return None


def _leaves(value: Any) -> Iterator[Any]:
    """What is in containers, less the bounds of slices."""
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _leaves(item)
    else:
        yield value
